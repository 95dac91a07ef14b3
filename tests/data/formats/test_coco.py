import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paligemma2.data.formats.outlines import mask_of
from paligemma2.data.rows import DataRow, RowProblem
from paligemma2.errors import DataError
from paligemma2.processing.masks import mask_to_rle
from tests.data.small_data import read_rows, read_sound
from tests.small_model import save_picture

IMAGE = {"id": 7, "file_name": "a.png", "height": 40, "width": 60}
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 90, "name": "hat"}]
CAT = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [6, 4, 12, 20], "iscrowd": 0}


def write(path: Path, annotations: list[Any], images: list[Any] | None = None, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "images": [IMAGE] if images is None else images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    path.write_text(json.dumps({**data, **more}))
    return path


def read_one(tmp_path: Path, annotations: list[Any], **more: Any) -> tuple[DataRow, list[RowProblem]]:
    write(tmp_path / "instances_train.json", annotations, **more)
    (row,), problems = read_rows("coco", tmp_path)
    return row, problems


def test_a_picture_has_its_objects_in_fractions(tmp_path: Path) -> None:
    row, problems = read_one(tmp_path, [CAT, {**CAT, "id": 2, "category_id": 90}])
    assert problems == []
    assert (row.id, row.height, row.width, row.suffix, row.prefix) == ("7", 40, 60, None, "")
    assert [thing.label for thing in row.objects] == ["cat", "hat"]
    assert row.objects[0].box.pixels(40, 60) == pytest.approx((4, 6, 24, 18))


def test_a_picture_without_objects_is_a_row_too(tmp_path: Path) -> None:
    row, problems = read_one(tmp_path, [])
    assert (row.objects, problems) == ((), [])


@pytest.mark.parametrize("kind", ["polygons", "runs", "compressed"])
def test_outlines_of_every_kind_give_the_same_mask(tmp_path: Path, kind: str) -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[4:24, 6:18] = True
    runs = [6 * 40 + 4, *[20, 20] * 11, 20, 16 + 42 * 40]
    outline = {
        "polygons": [[6, 4, 18, 4, 18, 24, 6, 24]],
        "runs": {"size": [40, 60], "counts": runs},
        "compressed": mask_to_rle(mask),
    }[kind]
    row, problems = read_one(tmp_path, [{**CAT, "segmentation": outline, "iscrowd": int(kind == "runs")}])
    assert problems == []
    (thing,) = row.objects
    assert thing.is_crowd == (kind == "runs")
    found = mask_of(thing, 40, 60)
    assert found is not None
    assert (found == mask).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_id": 5}, "no known category"),
        ({"bbox": None}, "not made of numbers"),
        ({"bbox": [1, 2, 3]}, "not made of numbers"),
        ({"bbox": [5, 5, 0, 5]}, "no area"),
        ({"bbox": [5, 5, -3, 5]}, "wrong way round"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "not made of numbers"),
        ({"segmentation": {"size": [60, 40], "counts": "a"}}, "size of its picture"),
        ({"segmentation": {"size": [40, 60], "counts": [5]}}, "do not fill"),
    ],
)
def test_a_bad_object_is_left_out_and_named_and_the_others_stay(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    row, (problem,) = read_one(tmp_path, [CAT, {**CAT, **change}])
    assert len(row.objects) == 1
    assert reason in problem.reason
    assert "left out" in problem.reason
    assert not problem.is_skipped


def test_a_box_over_the_edge_is_clipped(tmp_path: Path) -> None:
    row, (problem,) = read_one(tmp_path, [{**CAT, "bbox": [-6, 4, 24, 36]}])
    assert row.objects[0].box.pixels(40, 60) == (4, 0, 40, 18)
    assert "clipped" in problem.reason


@pytest.mark.parametrize(
    "image", [{"id": 1}, {"id": 1, "file_name": "a.png"}, {**IMAGE, "height": 0}, "a.png"]
)
def test_a_picture_without_name_or_size_is_skipped_and_named(tmp_path: Path, image: Any) -> None:
    write(tmp_path / "instances_train.json", [], [image, IMAGE])
    rows, (problem,) = read_rows("coco", tmp_path)
    assert [row.id for row in rows] == ["7"]
    assert problem.is_skipped
    assert "a picture has no" in problem.reason


def test_an_annotation_of_no_picture_is_named(tmp_path: Path) -> None:
    row, (problem,) = read_one(tmp_path, [CAT, {**CAT, "image_id": 8}])
    assert len(row.objects) == 1
    assert (problem.reason, problem.detail) == ("an annotation belongs to no picture", "image_id is 8")


def test_captions_of_a_picture_are_its_answers(tmp_path: Path) -> None:
    captions = [
        {"id": n, "image_id": 7, "caption": text} for n, text in enumerate(["A cat. ", "Ein Hut", " "])
    ]
    write(tmp_path / "captions_val2017.json", captions)
    (row,), (problem,) = read_rows(None, tmp_path)
    assert (row.prefix, row.suffix, row.id, row.split) == ("caption en", "A cat.", "7:caption", "valid")
    assert row.answers == ("A cat.", "Ein Hut")
    assert problem.reason == "the caption is empty"


def test_official_names_are_preferred_to_keypoints(tmp_path: Path) -> None:
    for name in ("instances_train2017", "captions_train2017", "person_keypoints_train2017"):
        write(tmp_path / "annotations" / f"{name}.json", [])
    assert {row.file.stem for row in read_sound(None, tmp_path)} == {
        "instances_train2017",
        "captions_train2017",
    }


@pytest.mark.parametrize(
    ("file", "picture"),
    [
        ("annotations/instances_val2017.json", "val2017/a.png"),
        ("annotations/instances_val2017.json", "images/val2017/a.png"),
        ("annotations/instances_val.json", "images/a.png"),
        ("valid/_annotations.coco.json", "valid/a.png"),
        ("val.json", "images/val/a.png"),
    ],
)
def test_pictures_are_found_where_people_put_them(tmp_path: Path, file: str, picture: str) -> None:
    save_picture(tmp_path / picture)
    write(tmp_path / file, [CAT])
    (row,) = read_sound(None, tmp_path)
    assert row.images == (tmp_path / picture,)
    assert row.split == "valid"


def test_a_file_can_be_named_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", [CAT])
    assert len(read_sound(None, path)) == 1


def test_what_has_no_lists_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "instances_train.json").write_text('{"images": {}}')
    with pytest.raises(DataError, match="no list of images"):
        read_rows("coco", tmp_path)


def test_real_annotations_are_read(shared: Path, tmp_path: Path) -> None:
    sample = json.loads((shared / "samples" / "coco_caps80.json").read_text())["rows"]
    names = sorted({one["category"] for real in sample for one in real["instances"]})
    images, annotations = [], []
    for real in sample:
        images.append({"id": int(real["id"]), "file_name": real["image"], "height": 1000, "width": 1000})
        for one in real["instances"]:
            left, top, right, bottom = (1000 * value for value in one["bbox"])
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"image_id": int(real["id"]), "bbox": box, "category_id": names.index(one["category"])}
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    write(tmp_path / "instances_val2014.json", annotations, images, categories=categories)
    rows, problems = read_rows(None, tmp_path)
    assert sum(len(row.objects) for row in rows) + len(problems) == len(annotations)
    assert len(rows) == len(sample)
    for row, real in zip(rows, sample, strict=True):
        if len(row.objects) == len(real["instances"]):
            assert [thing.label for thing in row.objects] == [one["category"] for one in real["instances"]]
            for thing, one in zip(row.objects, real["instances"], strict=True):
                left, top, right, bottom = one["bbox"]
                assert thing.box.pixels(1, 1) == pytest.approx((top, left, bottom, right))
