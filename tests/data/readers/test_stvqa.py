from pathlib import Path

from paligemma2.data.readers.stvqa import StVqaRecords
from tests.data.readers.small_files import folder_with

PATHS = ("coco-text/COCO_train2014_000000000009.jpg", "VizWiz/VizWiz_train_1.jpg", "icdar/img_1.jpg")
ROWS = [
    {"question_id": n, "file_path": path, "question": "?", "answers": ["a"]} for n, path in enumerate(PATHS)
]


def test_the_list_decides_where_there_is_one(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"t.json": {"data": ROWS}, "stvqa_val_images.txt": f"{PATHS[1]}\n"})
    parts = {
        part: [each.id for each in StVqaRecords(file="t.json", part=part).read(folder)]
        for part in ("train", "val", "")
    }
    assert parts == {"train": ["0", "2"], "val": ["1"], "": ["0", "1", "2"]}


def test_pictures_of_coco_are_the_large_ones(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"t.json": {"data": ROWS}})
    names = [each.pictures[0] for each in StVqaRecords(file="t.json").read(folder)]
    assert names == ["train2014/COCO_train2014_000000000009.jpg", *PATHS[1:]]


def test_a_tenth_is_drawn_by_name_without_a_list(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "question_id": n, "file_path": f"a/{n // 2}.jpg"} for n in range(2000)]
    folder = folder_with(tmp_path, {"t.json": {"data": rows}})
    val = list(StVqaRecords(file="t.json", part="val").read(folder))
    train = list(StVqaRecords(file="t.json", part="train").read(folder))
    assert len(val) + len(train) == 2000
    assert 140 < len(val) < 260
    assert not {each.unit for each in val} & {each.unit for each in train}
