import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from paligemma2.data.formats import parquet as ours
from paligemma2.errors import DataError
from tests.data.small_data import picture_of, read_rows, read_sound, text_rows, write_rows
from tests.small_model import save_picture


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return path.parent


@pytest.mark.parametrize("kind", ["structure", "bytes", "path in a structure", "path"])
def test_a_picture_may_be_bytes_or_a_path(tmp_path: Path, kind: str) -> None:
    path = save_picture(tmp_path / "a.png")
    image = {
        "structure": {"bytes": path.read_bytes(), "path": "gone.png"},
        "bytes": path.read_bytes(),
        "path in a structure": {"bytes": None, "path": "a.png"},
        "path": "a.png",
    }[kind]
    write(tmp_path / "train.parquet", {"image": image, "prefix": "ask", "suffix": "x"})
    (row,) = read_sound(None, tmp_path)
    assert picture_of(row) == path.read_bytes()
    assert (row.prefix, row.suffix, row.line, row.id) == ("ask", "x", 1, "train:1")


def test_shards_in_the_layout_of_the_hub_have_their_splits(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "data" / f"{name}.parquet", {"image": b"x", "suffix": name})
    assert [row.split for row in read_sound(None, tmp_path)] == ["train", "train", "valid"]


def test_objects_are_read_with_the_size_of_their_picture(tmp_path: Path) -> None:
    data = save_picture(tmp_path / "a.png", size=(60, 40)).read_bytes()
    objects = {"bbox": [[6.0, 4.0, 12.0, 20.0]], "categories": ["cat"]}
    write(tmp_path / "train.parquet", {"image": {"bytes": data, "path": None}, "objects": objects})
    (row,) = read_sound(None, tmp_path)
    assert row.objects[0].box.pixels(40, 60) == pytest.approx((4, 6, 24, 18))


def test_a_row_that_cannot_be_used_is_skipped_and_named_by_its_number(tmp_path: Path) -> None:
    sound, bad = {"image": b"x", "suffix": "y"}, {"image": None, "suffix": "y"}
    write(tmp_path / "train.parquet", sound, bad, {"image": b"x", "suffix": ""}, sound)
    rows, problems = read_rows(None, tmp_path)
    assert [row.line for row in rows] == [1, 4]
    assert [(problem.line, problem.reason) for problem in problems] == [
        (2, "the row has no picture"),
        (3, "the suffix is empty"),
    ]


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"train\.parquet is damaged"):
        read_rows(None, tmp_path)


def test_what_is_written_says_that_it_holds_pictures(tmp_path: Path) -> None:
    write_rows("parquet", tmp_path / "new", text_rows(tmp_path / "pictures", [("ask", "x")]))
    table = parquet.read_table(tmp_path / "new" / "train.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(table.column_names)
    assert features["image"] == {"_type": "Image"}
    assert table["image"][0].as_py()["path"] == "0.png"


def test_large_files_are_written_and_read_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_GROUP_ROWS", 4)
    rows = text_rows(tmp_path / "pictures", [("ask", str(number)) for number in range(30)])
    write_rows("parquet", tmp_path / "new", rows)
    assert parquet.ParquetFile(tmp_path / "new" / "train.parquet").num_row_groups == 3
    again = [row for row in read_sound("parquet", tmp_path / "new") if row.split == "train"]
    assert [row.suffix for row in again] == [str(number) for number in range(0, 30, 3)]
