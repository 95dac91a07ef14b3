from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import DataError
from paligemma2.evaluation.result import RESULT, RowResult, TaskResult, read_results, write_result

ROW = RowResult(
    row="TallyQA (simple)",
    metric="number match",
    value=0.5,
    interval=(0.4, 0.6),
    num_scored=10,
    num_rows=10,
    splits=("test_simple",),
    parts={"test_simple": 0.5},
)
FOUND = TaskResult(
    task="tallyqa",
    model="tiny",
    column="",
    fingerprint="abc",
    mode="paligemma",
    protocol={"hash": "123", "prefix": "answer en {question}"},
    rows=(ROW,),
    missing={"test_simple": ("a.png",)},
)


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_result(tmp_path / "a", FOUND)
    assert read_results(tmp_path) == [FOUND]


def test_only_all_examples_make_the_number_of_the_card() -> None:
    assert FOUND.is_whole
    assert not replace(FOUND, limit=5).is_whole
    assert not replace(FOUND, rows=(replace(ROW, num_scored=9),)).is_whole


def test_a_folder_without_results_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no"):
        read_results(tmp_path)
    (tmp_path / RESULT).write_text('{"rows": [{}]}')
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path)
