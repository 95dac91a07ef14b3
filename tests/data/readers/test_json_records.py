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
    with pytest.raises(DataError, match=r"x\.json (cannot be read|holds no list)"):
        list(JsonRecords(file="x.json", rows="rows").read(DataFolder(tmp_path)))


def test_rows_of_lines_and_of_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    (tmp_path / "y.json").write_text(json.dumps({"one": ROWS[0], "two": ROWS[1]}))
    folder = DataFolder(tmp_path)
    assert [each.fields for each in JsonRecords(file="x.jsonl", layout="lines").read(folder)] == ROWS
    named = list(JsonRecords(file="y.json", layout="mapping").read(folder))
    assert [each.id for each in named] == ["one", "two"]
    assert [each.fields for each in named] == ROWS


def test_names_of_pictures_are_made_of_fields(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"number": 7, "left": "a", "right": "b"}]))
    reader = JsonRecords(file="x.json", image=("{number:03d}.jpg", "right"))
    (only,) = reader.read(DataFolder(tmp_path))
    assert only.pictures == ("007.jpg", "b")


def test_options_are_joined(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"image": "a", "choices": ["one", "two"]}]))
    (only,) = JsonRecords(file="x.json", choices="choices").read(DataFolder(tmp_path))
    assert only.fields["options"] == "one \t two"


@pytest.mark.parametrize("row", [{"picture": "a"}, 3, ["image"], None, {"image": "a", "choices": 3}])
def test_a_malformed_row_is_told(tmp_path: Path, row: object) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{**ROWS[0], "choices": []}, row]))
    with pytest.raises(DataError, match=r"x\.json, row 1, cannot be used"):
        list(JsonRecords(file="x.json", choices="choices").read(DataFolder(tmp_path)))
