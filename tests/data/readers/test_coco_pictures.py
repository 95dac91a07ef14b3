from pathlib import Path

from paligemma2.data.readers.coco_pictures import coco_name, coco_name_of_id
from tests.data.readers.small_rows import folder_of


def test_pictures_have_the_names_of_either_release(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/000000000007.jpg": (4, 4), "b/COCO_val2014_000000000008.jpg": (4, 4)})
    assert coco_name(folder, "COCO_train2014_000000000007.jpg") == "000000000007.jpg"
    assert coco_name(folder, "COCO_val2014_000000000008.jpg") == "COCO_val2014_000000000008.jpg"
    assert coco_name(folder, "COCO_val2014_000000000009.jpg") == "COCO_val2014_000000000009.jpg"
    assert coco_name(folder, "other.jpg") == "other.jpg"


def test_pictures_are_found_by_their_numbers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/000000000007.jpg": (4, 4), "COCO_train2014_000000000008.jpg": (4, 4)})
    assert coco_name_of_id(folder, 7) == "000000000007.jpg"
    assert coco_name_of_id(folder, 8) == "COCO_train2014_000000000008.jpg"
    assert coco_name_of_id(folder, 9) == "000000000009.jpg"
