from pathlib import Path
from typing import Any

import pytest

from paligemma2.data.formats.records import (
    answers_of,
    objects_column,
    row_of_record,
    rows_of_files,
    suffix_of,
)
from paligemma2.data.rows import DataRow, RowProblem, UnusableRow
from tests.data.small_data import thing
from tests.small_model import save_picture


def row(record: dict[str, Any], folder: Path = Path("data")) -> DataRow:
    problems: list[RowProblem] = []
    made = row_of_record(
        record, file=folder / "a.jsonl", line=7, split="train", folder=folder, on_problem=problems.append
    )
    assert problems == []
    return made


def test_a_row_knows_where_it_is_from() -> None:
    made = row({"image": "a.png", "prefix": "ask", "suffix": "answer"})
    assert made == DataRow(
        images=(Path("data/a.png"),),
        prefix="ask",
        suffix="answer",
        split="train",
        id="a:7",
        file=Path("data/a.jsonl"),
        line=7,
    )


@pytest.mark.parametrize("image", ["image", "file_name", "images"])
@pytest.mark.parametrize("prefix", ["prefix", "prompt", "question"])
@pytest.mark.parametrize("suffix", ["suffix", "answer", "target"])
def test_fields_have_several_names(image: str, prefix: str, suffix: str) -> None:
    made = row({image: "a.png", prefix: "ask", suffix: "answer"})
    assert (made.images, made.prefix, made.suffix) == ((Path("data/a.png"),), "ask", "answer")


@pytest.mark.parametrize("name", ["text", "caption"])
def test_a_lone_text_is_a_caption(name: str) -> None:
    made = row({"file_name": "a.png", name: "a cat"})
    assert (made.prefix, made.suffix) == ("caption en", "a cat")


def test_several_pictures_stay_in_order() -> None:
    made = row({"image": ["b.png", "a.png"], "suffix": "x"})
    assert made.images == (Path("data/b.png"), Path("data/a.png"))


def test_split_and_id_can_be_stated() -> None:
    made = row({"image": "a.png", "suffix": "x", "split": "val", "question_id": 12})
    assert (made.split, made.id) == ("valid", "12")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"suffix": "x"}, "no picture is named"),
        ({"image": [], "suffix": "x"}, "no picture is named"),
        ({"image": [1], "suffix": "x"}, "no picture is named"),
        ({"image": "", "suffix": "x"}, "no picture is named"),
        ({"image": "a.png"}, "the suffix is missing"),
        ({"image": "a.png", "prefix": "ask", "text": "x"}, "the suffix is missing"),
        ({"image": "a.png", "suffix": " "}, "the suffix is empty"),
        ({"image": "a.png", "suffix": 3}, "the suffix is not text"),
        ({"image": "a.png", "prefix": 3, "suffix": "x"}, "the prefix is not text"),
        ({"image": "a.png", "suffix": "x", "split": "../up"}, "the split is not a word"),
        ({"image": "a.png", "suffix": "x", "split": 3}, "the split is not a word"),
        ({"image": "a.png", "objects": [1]}, "objects is not a JSON object"),
        ({"image": "a.png", "objects": {"bbox": [[0, 0, 1, 1]], "categories": []}}, "the same length"),
    ],
)
def test_what_cannot_be_used_is_named(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRow, match=reason):
        row(record)


def test_a_column_of_objects_is_in_pixels_and_comes_back(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", size=(60, 40))
    made = row({"image": "a.png", "objects": {"bbox": [[6, 4, 12, 20]], "categories": [3]}}, tmp_path)
    (found,) = made.objects
    assert found.label == "3"
    assert found.box == thing(6, 4, 18, 24, 40, 60).box
    assert objects_column(made, 40, 60) == {"bbox": [[6, 4, 12, 20]], "categories": ["3"]}


def test_every_file_gives_its_rows_and_problems(tmp_path: Path) -> None:
    def records(path: Path, on_problem: object) -> Any:
        return enumerate([{"image": "a.png", "suffix": path.stem}, {"image": "b.png"}], start=1)

    problems: list[RowProblem] = []
    files = [tmp_path / "train" / "x.csv", tmp_path / "test" / "y.csv"]
    rows = list(rows_of_files(files, tmp_path, records, problems.append))
    assert [(row.split, row.suffix, row.images[0]) for row in rows] == [
        ("train", "x", tmp_path / "train" / "a.png"),
        ("test", "y", tmp_path / "test" / "a.png"),
    ]
    assert [(problem.file, problem.line) for problem in problems] == [(files[0], 2), (files[1], 2)]


def test_a_row_of_objects_has_no_suffix_to_write() -> None:
    with pytest.raises(UnusableRow, match="no text"):
        suffix_of(DataRow(images=(), file=Path("a")))


def test_of_several_answers_the_first_is_the_suffix() -> None:
    for name in ("suffix", "answers", "captions"):
        made = row({"image": "a.png", name: ["one", "two", "two"]})
        assert (made.suffix, made.answers) == ("one", ("one", "two", "two"))
    assert row({"image": "a.png", "answers": ["one"]}).answers == ()
    assert row({"image": "a.png", "captions": ["one", "two"]}).prefix == "caption en"


@pytest.mark.parametrize("answers", [[], ["one", ""], ["one", 2], [["one"]]])
def test_answers_that_are_no_texts_are_refused(answers: list[object]) -> None:
    with pytest.raises(UnusableRow, match="the suffix is"):
        row({"image": "a.png", "suffix": answers})


def test_answers_are_written_as_a_list_only_where_there_are_several() -> None:
    assert answers_of(row({"image": "a.png", "suffix": ["one", "two"]})) == ["one", "two"]
    assert answers_of(row({"image": "a.png", "suffix": ["one"]})) == "one"
