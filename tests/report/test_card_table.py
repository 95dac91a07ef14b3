import dataclasses
from pathlib import Path

import pytest

from paligemma2.errors import DataError
from paligemma2.evaluation.result import TaskResult
from paligemma2.report.card_table import CardTable, Number, read_runs
from tests.small_results import TASKS, save_run, small_result, small_row, table_of, task_with


def only(table: CardTable) -> Number:
    (number,) = table.numbers
    return number


def test_ours_stands_beside_the_published_number_with_the_difference_and_its_interval() -> None:
    number = only(table_of(small_result()))
    assert number.published == 68.0
    assert number.difference == pytest.approx((2.0, -3.0, 6.0))
    assert number.is_whole
    assert number.notes == ()


def test_the_column_decides_which_number_of_the_card_is_meant() -> None:
    assert only(table_of(small_result(column="224-10B"))).published == 72.0
    for column in ("448-3B", ""):
        number = only(table_of(small_result(column=column)))
        assert number.published is None
        assert number.difference is None


@pytest.mark.parametrize(
    ("result", "note"),
    [
        (small_result(limit=6, seed=3), "partial: at most 6 rows of each split, drawn with seed 3"),
        (small_result(small_row(num_scored=5)), "partial: 1 of 6 examples were not scored"),
        (small_result(small_row(num_scored=3, num_rows=3)), "partial: 3 examples in the files, 6 in"),
    ],
)
def test_a_partial_run_is_marked_and_not_compared(result: TaskResult, note: str) -> None:
    number = only(table_of(result))
    assert not number.is_whole
    assert number.difference is None
    assert any(each.startswith(note) for each in number.notes)


def test_a_few_examples_less_than_published_are_noted_and_compared() -> None:
    number = only(table_of(small_result(small_row(num_scored=5, num_rows=5))))
    assert number.is_whole
    assert number.notes == ("5 examples in the files, 6 in the data set",)


def test_missing_pictures_are_named() -> None:
    result = small_result(small_row(num_scored=4), missing={"val": ("a.png", "b.png"), "other": ("c.png",)})
    assert "2 pictures are not there (the first: a.png)" in only(table_of(result)).notes


def test_what_differs_from_the_protocol_is_noted() -> None:
    protocol = {"prefix": "{question}", "final_cap": 30.0, "attention_cap": 50.0, "hash": "5eed"}
    number = only(table_of(small_result(protocol=protocol, mode="official")))
    assert "final_cap is 30.0; the card's protocol has none" in number.notes
    assert "prefix is '{question}'; the card's protocol has 'answer en {question}'" in number.notes
    assert "scored by the data set's own rule, the card's number by big_vision's" in number.notes
    assert not any("attention_cap" in note for note in number.notes)


def test_the_protocol_of_the_checkpoint_is_noted_once() -> None:
    own = "the checkpoint's own"
    protocol = {"protocol": "hf", "final_cap": own, "attention_cap": own, "hash": "5eed"}
    (note,) = only(table_of(small_result(protocol=protocol))).notes
    assert note.startswith("soft-caps, window and resize are the checkpoint's own (protocol hf)")


def test_why_a_task_cannot_be_repeated_is_noted() -> None:
    tasks = {"colours": task_with(exact=False, inexact_reason="the list is not public")}
    number = only(table_of(small_result(), tasks=tasks))
    assert number.notes == ("not exactly repeatable: the list is not public",)


def test_models_that_were_trained_for_one_task_each_share_a_column() -> None:
    other = small_result(small_row("Shapes"), task="shapes", model="runs/shapes-3b")
    table = table_of(small_result(), other)
    assert [column.models for column in table.columns] == [("runs/colours-3b", "runs/shapes-3b")]
    assert table.columns[0].title == "224-3B"
    assert [row.title for row in table.rows] == ["Colours (val)", "Shapes"]
    assert len(table.numbers) == 2


def test_several_models_for_one_row_have_a_column_each() -> None:
    again = small_result(model="runs/again")
    table = table_of(small_result(), again, small_result(mode="official"), small_result(column="224-10B"))
    assert [column.title for column in table.columns] == [
        "224-3B, colours-3b",
        "224-3B, again",
        "224-3B, official rules",
        "224-10B",
    ]
    assert table.rows[0].published == (68.0, 68.0, 68.0, 72.0)
    assert None not in table.rows[0].numbers


def test_a_model_keeps_its_column() -> None:
    first, second = small_result(model="a"), small_result(model="b")
    more = small_result(small_row("Shapes"), task="shapes", model="b")
    table = table_of(first, second, more)
    assert [column.models for column in table.columns] == [("a",), ("b",)]
    assert table.rows[1].numbers[0] is None


def test_controls_stand_beside_the_number() -> None:
    control = small_result(small_row(value=0.2), control="shuffled pictures", model="elsewhere")
    number = only(table_of(control, small_result()))
    assert number.row.value == 0.7
    assert [(each.name, each.value) for each in number.controls] == [("shuffled pictures", 0.2)]


def test_a_control_alone_is_not_compared() -> None:
    number = only(table_of(small_result(control="random weights")))
    assert not number.is_whole
    assert number.notes[0].startswith("a control (random weights)")


def test_rows_without_a_run_are_shown_when_asked() -> None:
    tasks = {**TASKS, "shapes": task_with("Shapes")}
    assert len(table_of(small_result(), tasks=tasks).rows) == 1
    table = table_of(small_result(), tasks=tasks, has_all_rows=True)
    assert [(row.title, row.published, row.numbers[0] is None) for row in table.rows] == [
        ("Colours (val)", (68.0,), False),
        ("Shapes", (68.0,), True),
    ]
    small = table_of(small_result(column="", model="runs/tiny"), has_all_rows=True)
    assert [column.title for column in small.columns] == ["tiny", "224-3B"]
    assert small.rows[0].published == (None, 68.0)


def test_rows_are_in_the_order_of_the_card() -> None:
    titles = [
        "COCO-35L (en)",
        "COCOcap",
        "ChartQA (aug)",
        "RefCOCO (val)",
        "RefCOCO+ (testA)",
        "ST-VQA (val)",
    ]
    result = small_result(*(small_row(title) for title in reversed(titles)))
    assert [row.title for row in table_of(result).rows] == titles


def test_a_result_of_an_unknown_task_is_shown_alone() -> None:
    number = only(table_of(small_result(task="mine"), tasks={}))
    assert number.published is None
    assert number.is_whole


def test_runs_are_read_from_folders_each_once(tmp_path: Path) -> None:
    save_run(tmp_path / "a" / "colours", small_result())
    save_run(tmp_path / "b" / "shapes", dataclasses.replace(small_result(), task="shapes"))
    runs = read_runs([tmp_path / "a", tmp_path])
    assert [(run.folder.name, run.result.task) for run in runs] == [
        ("colours", "colours"),
        ("shapes", "shapes"),
    ]
    with pytest.raises(DataError):
        read_runs([tmp_path / "a", tmp_path / "none"])
