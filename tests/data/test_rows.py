from pathlib import Path

import pytest

from paligemma2.data.rows import (
    DataRow,
    ProblemCounts,
    RowProblem,
    UnusableRow,
    canonical_split,
    one_per_answer,
    split_in,
    split_of_file,
)


@pytest.mark.parametrize(
    ("name", "split"),
    [("val", "valid"), ("Validation", "valid"), ("TRAIN", "train"), ("test", "test"), ("minival", "minival")],
)
def test_splits_have_one_name(name: str, split: str) -> None:
    assert canonical_split(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "valid"),
        ("_annotations.train", "train"),
        ("captions_test2015", "test"),
        ("pictures", None),
        ("trainers", None),  # a word that only begins like a split
    ],
)
def test_a_split_is_found_in_a_name(name: str, split: str | None) -> None:
    assert split_in(name) == split


def test_the_last_name_counts_most() -> None:
    assert split_in("train", "val") == "valid"
    assert split_in("train", "shapes") == "train"


def test_folders_above_the_data_set_say_nothing(tmp_path: Path) -> None:
    root = tmp_path / "test" / "data"
    assert split_of_file(root / "rows.csv", root) == "train"
    assert split_of_file(root / "val" / "metadata.csv", root) == "valid"
    assert split_of_file(root / "rows.csv", root / "rows.csv") == "train"


def test_a_problem_says_where_what_and_with_which_value() -> None:
    problem = UnusableRow("the suffix is empty", "it is ' '").problem(Path("a/train.jsonl"), 7)
    assert str(problem) == "train.jsonl, line 7: the suffix is empty (it is ' ')"
    assert problem.is_skipped
    assert str(RowProblem(file=Path("x.xml"), reason="not XML")) == "x.xml: not XML"


def test_a_row_with_several_answers_becomes_a_row_for_each() -> None:
    row = DataRow(images=(b"x",), prefix="ask", suffix="a", answers=("a", "b"), id="7", file=Path("f"))
    assert [(each.suffix, each.answers, each.id) for each in one_per_answer(row)] == [
        ("a", (), "7:0"),
        ("b", (), "7:1"),
    ]
    single = DataRow(images=(b"x",), suffix="a", file=Path("f"))
    assert list(one_per_answer(single)) == [single]


def test_problems_are_counted_by_reason_and_the_first_of_each_is_kept() -> None:
    counts = ProblemCounts()
    for line, reason in enumerate(("not JSON", "not JSON", "the suffix is empty"), start=1):
        counts.add(RowProblem(file=Path("f"), line=line, reason=reason))
    counts.add(RowProblem(file=Path("f"), line=9, reason="CRLF", is_skipped=False))
    assert counts.skipped == {"not JSON": 2, "the suffix is empty": 1}
    assert counts.noted == {"CRLF": 1}
    assert [problem.line for problem in counts.problems] == [1, 3, 9]
