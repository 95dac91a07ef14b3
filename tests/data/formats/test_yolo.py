from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paligemma2.errors import DataError
from paligemma2.processing.masks import mask_to_rle
from tests.data.small_data import object_rows, read_rows, read_sound, write_rows
from tests.small_model import save_picture


def lay_out(tmp_path: Path, settings: str, picture: str, label: str | None = None, text: str = "") -> Path:
    (tmp_path / "data.yaml").write_text(settings, encoding="utf-8")
    save_picture(tmp_path / picture)
    if label is not None:
        (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / label).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "picture", "label"),
    [
        ("train: images/train", "images/train/a.png", "labels/train/a.txt"),
        ("train: ../train/images", "train/images/a.png", "train/labels/a.txt"),  # as Roboflow writes it
        ("path: root\ntrain: images", "root/images/a.png", "root/labels/a.txt"),
        ("train: [images/one, images/two]", "images/two/a.png", "labels/two/a.txt"),
        ("train: flat", "flat/a.png", "flat/a.txt"),
    ],
)
def test_labels_are_found_in_every_layout(tmp_path: Path, settings: str, picture: str, label: str) -> None:
    lay_out(tmp_path, settings + "\nnames: [dog, cat]", picture, label, "1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "images" / "one").mkdir(parents=True, exist_ok=True)
    (row,) = read_sound(None, tmp_path)
    assert row.images[0] == tmp_path / picture or Path(str(row.images[0])).samefile(tmp_path / picture)
    (cat,) = row.objects
    assert cat.label == "cat"
    assert cat.box.pixels(1, 1) == pytest.approx((0.3, 0.4, 0.7, 0.6))
    assert cat.polygons == ()


def test_a_list_of_pictures_can_be_a_file(tmp_path: Path) -> None:
    lay_out(tmp_path, "names: {0: dog}\nval: val.txt", "images/a.png", "labels/a.txt", "0 0.5 0.5 1 1")
    (tmp_path / "val.txt").write_text("./images/a.png\n")
    (row,) = read_sound(None, tmp_path)
    assert (row.split, row.objects[0].label) == ("valid", "dog")


def test_an_outline_has_the_box_around_it(tmp_path: Path) -> None:
    lay_out(
        tmp_path, "names: [cat]\ntrain: images", "images/a.png", "labels/a.txt", "0 0.1 0.2 0.5 0.3 0.4 0.9"
    )
    (cat,) = read_sound(None, tmp_path)[0].objects
    assert cat.polygons == (((0.1, 0.2), (0.5, 0.3), (0.4, 0.9)),)
    assert cat.box.pixels(1, 1) == (0.2, 0.1, 0.9, 0.5)


def test_a_picture_without_labels_has_no_objects(tmp_path: Path) -> None:
    (row,) = read_sound(None, lay_out(tmp_path, "names: [cat]\ntrain: images", "images/a.png"))
    assert (row.objects, row.suffix) == ((), None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.1", "neither a box nor an outline"),
        ("0 0.5 0.5 0.1 0.1 0.9", "neither a box nor an outline"),
        ("5 0.5 0.5 0.1 0.1", "no known class"),
        ("cat 0.5 0.5 0.1 0.1", "not made of numbers"),
        ("0 0.5 0.5 0.1 nan", "not made of numbers"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 \xff", "not UTF-8"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, line: str, reason: str) -> None:
    lay_out(tmp_path, "names: [cat]\ntrain: images", "images/a.png", "labels/a.txt")
    (tmp_path / "labels/a.txt").write_bytes(b"0 0.5 0.5 0.2 0.2\n" + line.encode("latin-1") + b"\n")
    (row,), (problem,) = read_rows(None, tmp_path)
    assert len(row.objects) == 1
    assert (problem.line, problem.is_skipped) == (2, False)
    assert reason in problem.reason


def test_labels_without_a_picture_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "names: [cat]\ntrain: images\ntest: gone", "images/a.png", "labels/b.txt")
    rows, problems = read_rows(None, tmp_path)
    assert len(rows) == 1
    assert [(problem.file.name, problem.reason) for problem in problems] == [
        ("b.txt", "labels have no picture"),
        ("data.yaml", "a folder of pictures is missing"),
    ]


@pytest.mark.parametrize("text", ["names: 3", "[1]", "names: {a: b}", "train: [", "\x00"])
def test_settings_without_names_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=r"data\.yaml"):
        read_rows("yolo", tmp_path)


def test_settings_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: !!python/object/apply:os.getcwd []")
    with pytest.raises(DataError, match="cannot be read"):
        read_rows("yolo", tmp_path)


def test_any_label_comes_back(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 2)[1:]
    for number, label in enumerate(["yes", "1", "a: b", "- x", "#", "'\"", "é\u2028垃", "null"]):
        named = replace(row, objects=(replace(row.objects[0], label=label),))
        write_rows("yolo", tmp_path / str(number), [named])
        assert [one.label for one in read_sound("yolo", tmp_path / str(number))[0].objects] == [label]


def test_of_an_outline_in_parts_the_largest_is_written_and_that_is_said(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 2)[1:]
    mask = np.zeros((50, 60), dtype=bool)
    mask[5:8, 1:4] = mask[10:30, 2:18] = True
    cat = replace(row.objects[0], polygons=(), rle=mask_to_rle(mask))
    (problem,) = write_rows("yolo", tmp_path / "new", [replace(row, objects=(cat,))])
    assert (problem.detail, problem.is_skipped) == (f"{cat.label!r} has 2", False)
    (again,) = read_sound("yolo", tmp_path / "new")[0].objects
    assert again.box.pixels(50, 60) == pytest.approx((10, 2, 30, 18), abs=1e-3)
