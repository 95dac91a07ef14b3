from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.small_data import object_rows, read_rows, read_sound, write_rows
from tests.small_model import save_picture

OBJECT = "<object><name>cat</name><bndbox>{}</bndbox></object>"
BOX = "<xmin>7</xmin><ymin>5</ymin><xmax>18</xmax><ymax>24</ymax>"


def annotation(*objects: str, name: str = "a.png", size: str = "<width>60</width><height>40</height>") -> str:
    return f"<annotation><filename>{name}</filename><size>{size}</size>{''.join(objects)}</annotation>"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_pixels_count_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    whole = "<xmin>1</xmin><ymin>1</ymin><xmax>60</xmax><ymax>40</ymax>"
    write(tmp_path / "Annotations" / "a.xml", annotation(OBJECT.format(BOX), OBJECT.format(whole)))
    (row,) = read_sound(None, tmp_path)
    first, second = row.objects
    assert first.box.pixels(40, 60) == pytest.approx((4, 6, 24, 18))
    assert second.box.pixels(40, 60) == (0, 0, 40, 60)
    assert (row.height, row.width, row.id) == (40, 60, "a")


@pytest.mark.parametrize(
    ("file", "picture"),
    [
        ("Annotations/a.xml", "JPEGImages/a.png"),
        ("VOC2012/Annotations/a.xml", "VOC2012/JPEGImages/a.png"),
        ("train/a.xml", "train/a.png"),
        ("annotations/a.xml", "images/a.png"),
    ],
)
def test_pictures_are_found_in_every_layout(tmp_path: Path, file: str, picture: str) -> None:
    save_picture(tmp_path / picture)
    write(tmp_path / file, annotation())
    (row,) = read_sound(None, tmp_path)
    assert row.images == (tmp_path / picture,)


def test_lists_name_the_splits(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "Annotations" / f"{name}.xml", annotation(name=f"{name}.png"))
    lists = tmp_path / "ImageSets" / "Main"
    for name, text in {
        "trainval": "a\nb\n",
        "train": "a\n",
        "val": "b\n",
        "cat_test": "a 1\n",
        "test": "c",
    }.items():
        write(lists / f"{name}.txt", text)
    assert [row.split for row in read_sound(None, tmp_path)] == ["train", "valid", "test"]


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "declares a document type"),
        ("<annotation><filename>a.png", "not XML"),
        ("", "not XML"),
        ("<annotation/>", "not an annotation of VOC"),
        ("<html/>", "not an annotation of VOC"),
        (annotation(size="<width>60</width>"), "the size of the picture is missing"),
        (annotation(size="<width>60</width><height>0</height>"), "the size of the picture is missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_skipped_and_named(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path / "Annotations" / "a.xml", text)
    write(tmp_path / "Annotations" / "b.xml", annotation())
    rows, (problem,) = read_rows(None, tmp_path)
    assert [row.id for row in rows] == ["b"]
    assert problem.file.name == "a.xml"
    assert reason in problem.reason
    assert problem.is_skipped


def test_a_document_type_hidden_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Annotations" / "a.xml"
    path.parent.mkdir()
    path.write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + BOMB).encode("utf-16"))
    _, (problem,) = read_rows("voc", tmp_path)
    assert "declares a document type" in problem.reason


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (OBJECT.format("<xmin>1</xmin>"), "not made of numbers and is left out"),
        (OBJECT.format(BOX.replace("18", "nan")), "not made of numbers and is left out"),
        ("<object></object>", "no name and is left out"),
        (OBJECT.format(BOX.replace("18", "3")), "wrong way round"),
        (OBJECT.format(BOX.replace("18", "70")), "clipped"),
    ],
)
def test_a_bad_object_is_named_and_the_picture_stays(tmp_path: Path, thing: str, reason: str) -> None:
    write(tmp_path / "a.xml", annotation(thing, OBJECT.format(BOX)))
    (row,), (problem,) = read_rows(None, tmp_path)
    assert row.objects[-1].box.pixels(40, 60) == pytest.approx((4, 6, 24, 18))
    assert reason in problem.reason
    assert not problem.is_skipped


def test_rows_of_one_picture_share_a_file(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 4)[3:]
    write_rows("voc", tmp_path / "new", [replace(row, objects=(one,)) for one in row.objects])
    (again,) = read_sound("voc", tmp_path / "new")
    assert [one.label for one in again.objects] == [one.label for one in row.objects]
    assert (tmp_path / "new/ImageSets/Main/train.txt").read_text() == "a\n"


def test_a_thin_box_at_the_edge_keeps_a_pixel_inside(tmp_path: Path) -> None:
    (row,) = object_rows(tmp_path / "pictures", 2)[1:]
    thin = replace(row.objects[0].box, x_min=0.9999, x_max=1.0)
    write_rows("voc", tmp_path / "new", [replace(row, objects=(replace(row.objects[0], box=thin),))])
    (one,) = read_sound("voc", tmp_path / "new")[0].objects
    assert one.box.pixels(1, 60)[1::2] == pytest.approx((59, 60))
