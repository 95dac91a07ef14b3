import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from paligemma2.data.registry import FORMATS
from paligemma2.data.rows import UnusableRow
from paligemma2.processing.masks import polygons_to_mask, rle_to_mask
from tests.data.small_data import object_rows, read_sound, text_rows, thing, write_rows


def opened(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    rows = object_rows(tmp_path / "pictures")
    write_rows("coco", tmp_path / "new", rows)
    coco = opened(tmp_path / "new" / "annotations" / "instances_train.json")
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    row = rows[3]
    (image,) = coco.loadImgs([3])
    assert (image["height"], image["width"]) == (70, 60)
    found = coco.loadAnns(coco.getAnnIds(imgIds=[3]))
    assert [names[one["category_id"]] for one in found] == [one.label for one in row.objects]
    for one, expected in zip(found, row.objects, strict=True):
        x, y, width, height = one["bbox"]
        assert (y, x, y + height, x + width) == pytest.approx(expected.box.pixels(70, 60), abs=0.01)
        assert one["area"] == pytest.approx(width * height / 2)  # of a diamond
        mask, ours = rle_to_mask(coco.annToRLE(one)), polygons_to_mask(one["segmentation"], 70, 60)
        assert (mask & ours).sum() / (mask | ours).sum() > 0.9


def test_all_splits_share_their_categories(tmp_path: Path) -> None:
    write_rows("coco", tmp_path / "new", object_rows(tmp_path / "pictures"))
    files = sorted((tmp_path / "new" / "annotations").glob("*"))
    assert [path.name for path in files] == [
        f"instances_{split}.json" for split in ("test", "train", "valid")
    ]
    first, second, third = (json.loads(path.read_text())["categories"] for path in files)
    assert first == second == third
    assert len(first) == 4


def test_numbers_of_pictures_stay_and_new_ones_are_free(tmp_path: Path) -> None:
    ids = ["42", "x", "42", "", "1"]
    rows = [
        replace(row, id=id, split="train")
        for row, id in zip(object_rows(tmp_path / "pictures", 5), ids, strict=True)
    ]
    write_rows("coco", tmp_path / "new", rows)
    written = [row.id for row in read_sound("coco", tmp_path / "new")]
    assert written[0] == "42"
    assert len(set(written)) == 5


def test_rows_of_one_picture_share_it(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 3)[2:]
    parts = [replace(row, objects=(one,)) for one in row.objects]
    write_rows("coco", tmp_path / "new", parts)
    (again,) = read_sound("coco", tmp_path / "new")
    assert len(again.objects) == 2


def test_captions_are_written_as_captions(tmp_path: Path) -> None:
    rows = text_rows(
        tmp_path / "pictures", [("caption en", "Ein Müllwagen"), ("cap en", "b"), ("describe en", "c")]
    )
    write_rows("coco", tmp_path / "new", rows)
    assert sorted(row.suffix or "" for row in read_sound(None, tmp_path / "new")) == [
        "Ein Müllwagen",
        "b",
        "c",
    ]
    coco = opened(tmp_path / "new" / "annotations" / "captions_train.json")
    assert [one["caption"] for one in coco.loadAnns(coco.getAnnIds())] == ["Ein Müllwagen"]


def test_other_text_is_refused(tmp_path: Path) -> None:
    (row,) = text_rows(tmp_path / "pictures", [("answer en what?", "a cat")])
    with pytest.raises(UnusableRow, match=r"neither \('answer en what\?'\)"):
        FORMATS["coco"].writer(tmp_path / "new", lambda problem: None).write(row)


def test_crowds_and_masks_stay(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 1)
    rle = {"size": [40, 60], "counts": [100, 30, 40 * 60 - 130]}
    crowd = replace(thing(1, 1, 20, 20, 40, 60), polygons=(), rle=rle, is_crowd=True)
    write_rows("coco", tmp_path / "new", [replace(row, objects=(crowd,))])
    (again,) = read_sound("coco", tmp_path / "new")
    assert (again.objects[0].rle, again.objects[0].is_crowd) == (rle, True)
    (written,) = json.loads((tmp_path / "new/annotations/instances_train.json").read_text())["annotations"]
    assert (written["area"], written["iscrowd"]) == (30, 1)
