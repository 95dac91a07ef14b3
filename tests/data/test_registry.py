from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.data.registry import FORMATS, find_format, format_named, open_data
from paligemma2.data.rows import DataRow, RowProblem, UnusableRow
from paligemma2.errors import DataError, InputError
from paligemma2.types import FilePart
from tests.data.small_data import object_rows, picture_of, read_rows, read_sound, text_rows, write_rows

TEXT = [name for name, form in FORMATS.items() if form.holds == "text"]
OBJECTS = [name for name, form in FORMATS.items() if form.holds == "objects"]
AWKWARD = [
    ("caption en", 'a "quoted", comma; and ; semicolon'),
    ("answer en what?", "two\nlines"),
    ("detect person's hat", "<loc0001><loc0002><loc0500><loc1023> person's hat"),
    ("", "Müllwagen 垃圾车 \u2028 🐈"),
    ("caption de", "  spaces around  "),
    ("ocr", "null"),
]


def texts_of(rows: list[DataRow]) -> list[tuple[str, str, str | None, bytes]]:
    return sorted((row.split, row.prefix, row.suffix or "", picture_of(row)) for row in rows)


@pytest.mark.parametrize("name", TEXT)
def test_text_rows_come_back_as_they_were_with_their_pictures(name: str, tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", AWKWARD)
    assert write_rows(name, tmp_path / "new", rows) == []
    assert find_format(tmp_path / "new") == name
    assert texts_of(read_sound(name, tmp_path / "new")) == texts_of(rows)


@pytest.mark.parametrize("name", TEXT)
@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_comes_back(name: str, texts: list[tuple[str, str]]) -> None:
    if name == "llava":  # whose tag and spaces around a question mean nothing
        texts = [(prefix.replace("<image>", "").strip(), suffix) for prefix, suffix in texts]
    with TemporaryDirectory() as folder:
        rows = text_rows(Path(folder) / "pictures", texts)
        write_rows(name, Path(folder) / "new", rows)
        assert texts_of(read_sound(name, Path(folder) / "new")) == texts_of(rows)


def by_picture(rows: list[DataRow]) -> list[DataRow]:
    return sorted(rows, key=picture_of)


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_come_back_with_labels_boxes_splits_and_pictures(name: str, tmp_path: Path) -> None:
    rows = object_rows(tmp_path / "pictures")
    assert write_rows(name, tmp_path / "new", rows) == []
    assert find_format(tmp_path / "new") == name
    again = read_sound(name, tmp_path / "new")
    assert len(again) == len(rows)
    for new, old in zip(by_picture(again), by_picture(rows), strict=True):
        assert picture_of(new) == picture_of(old)
        assert new.split == old.split
        assert [thing.label for thing in new.objects] == [thing.label for thing in old.objects]
        for one, other in zip(new.objects, old.objects, strict=True):
            assert one.box.pixels(1, 1) == pytest.approx(other.box.pixels(1, 1), abs=2e-6)


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_outlines_come_back(name: str, tmp_path: Path) -> None:
    rows = object_rows(tmp_path / "pictures")
    write_rows(name, tmp_path / "new", rows)
    for new, old in zip(by_picture(read_sound(name, tmp_path / "new")), by_picture(rows), strict=True):
        for one, other in zip(new.objects, old.objects, strict=True):
            (polygon,), (expected,) = one.polygons, other.polygons
            assert [*map(list, polygon)] == [pytest.approx(point, abs=2e-5) for point in map(list, expected)]


@pytest.mark.parametrize("first", OBJECTS)
@pytest.mark.parametrize("second", OBJECTS)
def test_objects_survive_a_chain_of_formats(first: str, second: str, tmp_path: Path) -> None:
    rows = object_rows(tmp_path / "pictures")
    write_rows(first, tmp_path / "one", rows)
    write_rows(second, tmp_path / "two", read_sound(first, tmp_path / "one"))
    again = by_picture(read_sound(second, tmp_path / "two"))
    for new, old in zip(again, by_picture(rows), strict=True):
        assert [thing.label for thing in new.objects] == [thing.label for thing in old.objects]
        for one, other in zip(new.objects, old.objects, strict=True):
            assert one.box.pixels(1, 1) == pytest.approx(other.box.pixels(1, 1), abs=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_picture_costs_its_row_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    row = DataRow(images=(tmp_path / "gone.png",), prefix="caption en", suffix="x", file=tmp_path)
    (tmp_path / "new").mkdir()
    writer = FORMATS[name].writer(tmp_path / "new", lambda problem: None)
    if FORMATS[name].holds == "objects":
        row = DataRow(images=row.images, file=tmp_path)
    with pytest.raises(UnusableRow, match=r"the picture is missing \(.*gone.png"):
        writer.write(row)
    writer.close()
    assert [path for path in (tmp_path / "new").rglob("*") if path.suffix in (".png", ".tar")] == []
    if FORMATS[name].is_here(tmp_path / "new"):
        assert read_rows(name, tmp_path / "new")[0] == []


@pytest.mark.parametrize("name", TEXT)
def test_a_row_without_text_is_refused_by_formats_of_text(name: str, tmp_path: Path) -> None:
    (row, *_) = object_rows(tmp_path, 1)
    writer = FORMATS[name].writer(tmp_path / "new", lambda problem: None)
    with pytest.raises(UnusableRow, match="the row has no text"):
        writer.write(row)
    writer.close()


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_text_without_objects_is_refused_by_formats_of_boxes(name: str, tmp_path: Path) -> None:
    (row,) = text_rows(tmp_path, [("caption en", "a cat")])
    writer = FORMATS[name].writer(tmp_path / "new", lambda problem: None)
    with pytest.raises(UnusableRow, match="the row has no objects"):
        writer.write(row)


@pytest.mark.parametrize("name", FORMATS)
def test_one_split_can_be_read_under_any_of_its_names(name: str, tmp_path: Path) -> None:
    rows = (
        object_rows(tmp_path / "pictures")
        if FORMATS[name].holds == "objects"
        else text_rows(tmp_path / "pictures", AWKWARD)
    )
    write_rows(name, tmp_path / "new", rows)
    problems: list[RowProblem] = []
    found = list(open_data(tmp_path / "new", split="validation", on_problem=problems.append))
    assert [row.split for row in found] == ["valid", "valid"]


def test_a_folder_in_no_format_is_an_error_that_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match="no format known here") as caught:
        find_format(tmp_path)
    for name, form in FORMATS.items():
        assert f"{name}: {form.looks_for}" in caught.value.hint


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        find_format(tmp_path / "nowhere")


def test_a_folder_in_another_format_than_named_is_an_error_that_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("image,suffix\n")
    with pytest.raises(DataError, match="not in the format 'yolo'") as caught:
        read_rows("yolo", tmp_path)
    assert "data.yaml" in caught.value.hint


def test_a_format_that_does_not_exist_is_an_error_that_names_all() -> None:
    with pytest.raises(InputError, match="'coke' is not a format") as caught:
        format_named("coke")
    assert "coco" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in TEXT if FORMATS[name].holds_answers])
def test_several_answers_come_back_where_a_format_holds_them(name: str, tmp_path: Path) -> None:
    (row,) = text_rows(tmp_path / "pictures", [("ask", "one")])
    write_rows(name, tmp_path / "new", [replace(row, answers=("one", "two", "two"))])
    (again,) = read_sound(name, tmp_path / "new")
    assert (again.suffix, again.answers) == ("one", ("one", "two", "two"))


def test_pictures_inside_of_larger_files_can_come_by_their_place(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", [("ask", "one"), ("ask", "two")])
    write_rows("tar", tmp_path / "new", rows)
    read = open_data(tmp_path / "new", by_place=True, on_problem=lambda problem: None)
    assert all(isinstance(row.images[0], FilePart) for row in read)
