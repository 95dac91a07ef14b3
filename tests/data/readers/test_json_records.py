import json
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.errors import DataError

ROWS = [{"image": "a.png", "q": 1, "simple": True}, {"image": "b.png", "q": 2, "simple": False}]


def test_rows_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    first, second = JsonRecords(file="x.json", id="q").read(DataFolder(tmp_path))
    assert first.id == "1"
    assert second.pictures == ("b.png",)
    assert second.fields == ROWS[1]


def test_rows_of_a_field_with_certain_values(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"data": ROWS}))
    (only,) = JsonRecords(file="x.json", rows="data", where={"simple": False}).read(DataFolder(tmp_path))
    assert only.fields["q"] == 2


@pytest.mark.parametrize("text", ["{", '{"data": 3}', "[]x"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json cannot be read"):
        list(JsonRecords(file="x.json", rows="rows").read(DataFolder(tmp_path)))
