import json
from pathlib import Path

import pytest

from paligemma2.data.readers.nlvr import NlvrRecords
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with


def test_the_identifier_names_left_and_right(tmp_path: Path) -> None:
    row = {"identifier": "dev-850-0-1", "sentence": "One is red.", "label": "True"}
    (record,) = NlvrRecords(file="dev.json").read(folder_with(tmp_path, {"dev.json": json.dumps(row)}))
    assert record.pictures == ("dev-850-0-img0.png", "dev-850-0-img1.png")
    assert (record.id, record.unit, record.fields) == ("dev-850-0-1", "dev-850-0", row)


def test_a_row_without_identifier_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dev\.json, row 0"):
        list(NlvrRecords(file="dev.json").read(folder_with(tmp_path, {"dev.json": '{"sentence": "?"}'})))
