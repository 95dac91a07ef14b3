from pathlib import Path

import pytest

from paligemma2.data.readers.scienceqa import ScienceQaRecords, option_orders
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with

ROW = {"question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "", "image": "i.png", "split": "val"}


def test_problems_with_a_picture_of_the_split(tmp_path: Path) -> None:
    rows = {
        "1": ROW,
        "2": {**ROW, "image": None},
        "3": {**ROW, "split": "test"},
        "4": {**ROW, "hint": "Look."},
    }
    first, second = ScienceQaRecords(split="val").read(folder_with(tmp_path, {"problems.json": rows}))
    assert first.pictures == ("/val/1/i.png",)
    assert first.fields["options"] == "(A) x, (B) y"
    assert (first.fields["letter"], first.fields["context"]) == ("B", "N/A")
    assert second.fields["context"] == "Look."
    assert first.variants == ()


def test_options_take_other_orders_in_training_with_their_letters(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"problems.json": {"1": ROW}})
    (record,) = ScienceQaRecords(split="val", orders=24).read(folder)
    seen = [(way["options"], way["letter"]) for (way,) in record.variants]
    assert seen == [("(A) x, (B) y", "B"), ("(A) y, (B) x", "A")]
    assert record.fields == record.variants[0][0]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 6), (4, 24), (5, 24)])
def test_orders_are_different_and_begin_with_the_one_given(count: int, expected: int) -> None:
    orders = option_orders(count, 24, "a")
    assert len(orders) == len(set(orders)) == expected
    assert orders[0] == tuple(range(count))
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert orders == option_orders(count, 24, "a")


def test_a_malformed_problem_is_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"problems.json": {"9": {**ROW, "answer": 2}}})
    with pytest.raises(DataError, match=r"problems\.json, row 9"):
        list(ScienceQaRecords(split="val").read(folder))
