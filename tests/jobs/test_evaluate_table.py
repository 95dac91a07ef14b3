from dataclasses import replace

import pytest

from paligemma2.evaluation.result import RowResult, TaskResult
from paligemma2.evaluation.task import Row
from paligemma2.jobs.evaluate_table import HEADER, card_number, result_rows
from tests.small_task import EQUAL, small_task

FILE = """
from tests.small_task import EQUAL, small_task
from paligemma2.evaluation.task import Row
TASK = small_task(rows=(Row(
    title="Colours", splits=("val",), metric=EQUAL, published=(74.7, None, None, 80.0, None, None)
),))
"""
TASK = small_task(
    rows=(
        Row(title="Colours", splits=("val",), metric=EQUAL, published=(74.7, None, None, None, None, None)),
    )
)
ROW = RowResult(
    row="Colours",
    metric="equality",
    value=0.7512,
    interval=(0.7, 0.8049),
    num_scored=40,
    num_rows=40,
    splits=("val",),
)


def result(**changes):
    given = TaskResult(
        task="colours",
        model="some/model",
        column="224-3B",
        fingerprint="f",
        mode="paligemma",
        protocol={},
        rows=(ROW,),
    )
    return replace(given, **changes)


def test_the_card_s_number_stands_beside_ours(tmp_path):
    (tmp_path / "colours.py").write_text(FILE)
    (line,) = result_rows([result()], [str(tmp_path / "colours.py")])
    assert len(line) == len(HEADER)
    assert line == ("some/model", "Colours", "equality", "75.1", "70.0 to 80.5", "74.7", "40 of 40")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"limit": 40}, "partial"),
        ({"rows": (replace(ROW, num_scored=39),)}, "partial"),
        ({"control": "random weights"}, "–"),
        ({"column": ""}, "–"),
        ({"column": "448-3B"}, "–"),
    ],
)
def test_what_is_not_to_be_compared_has_none(changes, text):
    changed = result(**changes)
    assert card_number(changed, changed.rows[0], TASK) == text


def test_a_control_is_named(tmp_path):
    (tmp_path / "colours.py").write_text(FILE)
    (line,) = result_rows([result(control="random weights")], [str(tmp_path / "colours.py")])
    assert line[0] == "some/model (random weights)"


def test_files_with_few_of_the_data_set_s_examples_are_not_compared():
    task = replace(TASK, rows=(replace(TASK.rows[0], num_examples=1000),))
    assert card_number(result(), ROW, task) == "partial"
    assert card_number(result(), ROW, replace(TASK, rows=(replace(TASK.rows[0], num_examples=45),))) == "74.7"


def test_a_bound_just_below_zero_is_zero(tmp_path):
    (tmp_path / "colours.py").write_text(FILE)
    given = result(rows=(replace(ROW, interval=(-1e-9, 0.5)),))
    (line,) = result_rows([given], [str(tmp_path / "colours.py")])
    assert line[4] == "0.0 to 50.0"
