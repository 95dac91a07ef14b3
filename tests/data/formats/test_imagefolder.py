import json
from pathlib import Path

import pytest

from paligemma2.data.rows import DataRow
from tests.data.small_data import object_rows, read_rows, read_sound, write_rows
from tests.small_model import save_picture


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize(("folder", "split"), [("", "train"), ("validation", "valid"), ("data/test", "test")])
def test_captions_are_found_in_either_file_at_any_depth(
    tmp_path: Path, name: str, folder: str, split: str
) -> None:
    path = tmp_path / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"file_name": "0001.png", "text": "This is a golden retriever"}
    path.write_text(
        "file_name,text\n0001.png,This is a golden retriever\n"
        if path.suffix == ".csv"
        else json.dumps(record)
    )
    (row,) = read_sound(None, tmp_path)
    assert (row.prefix, row.suffix, row.split) == ("caption en", "This is a golden retriever", split)
    assert row.images == (path.with_name("0001.png"),)


def test_objects_alone_are_read_with_the_size_of_their_picture(tmp_path: Path) -> None:
    save_picture(tmp_path / "0001.png", size=(600, 400))
    objects = {"bbox": [[302, 109, 73, 52], [810, 100, 57, 28]], "categories": ["cat", "dog"]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "0001.png", "objects": objects}))
    (row,), (problem,) = read_rows(None, tmp_path)
    assert (row.prefix, row.suffix) == ("", None)
    (cat,) = row.objects
    assert cat.box.pixels(400, 600) == pytest.approx((109, 302, 161, 375))
    assert "no area in the picture" in problem.reason
    assert "'dog'" in problem.detail


def test_objects_of_a_missing_picture_cost_the_row(tmp_path: Path) -> None:
    objects = {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "gone.png", "objects": objects}))
    rows, (problem,) = read_rows("imagefolder", tmp_path)
    assert rows == []
    assert (problem.reason, problem.line) == ("the picture is missing", 1)


def test_texts_with_objects_come_back_with_both(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 3)[2:]
    both = DataRow(
        images=row.images,
        prefix="detect cat",
        suffix="some",
        objects=row.objects,
        split="test",
        file=tmp_path,
    )
    write_rows("imagefolder", tmp_path / "new", [both])
    (again,) = read_sound("imagefolder", tmp_path / "new")
    assert (again.prefix, again.suffix, again.split) == ("detect cat", "some", "test")
    for new, old in zip(again.objects, row.objects, strict=True):
        assert new.label == old.label
        assert new.box.pixels(1, 1) == pytest.approx(old.box.pixels(1, 1), abs=1e-5)
