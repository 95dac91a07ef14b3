from pathlib import Path

import pytest

from paligemma2.data.readers.caption_rows import CaptionRows
from paligemma2.errors import DataError
from tests.data.readers.small_rows import fixture, folder_of, read


def test_the_captions_of_a_picture_belong_together() -> None:
    first, second = read(CaptionRows(file="TextCaps_0.1_val.json"), fixture("textcaps"))
    assert (first.id, first.pictures) == ("003a8ae2ef43b901", ("003a8ae2ef43b901",))
    assert first.fields["caption_str"] == ["A bottle of Heinz ketchup.", "A Heinz bottle on a table."]
    assert second.fields["caption_str"] == ["A book named Python."]


def test_captions_that_only_a_server_knows_are_empty() -> None:
    (row,) = read(CaptionRows(file="TextCaps_0.1_test.json"), fixture("textcaps"))
    assert row.fields["caption_str"] == [""]


def test_malformed_rows_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": {"data": [{"caption_str": "a"}]}})
    with pytest.raises(DataError, match="row 0, cannot be used: no field 'image_name'"):
        read(CaptionRows(file="a.json"), folder)
