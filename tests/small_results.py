"""Results of runs, made up or written as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from paligemma2.evaluation.predictions import Header, Prediction, write_predictions
from paligemma2.evaluation.result import RowResult, TaskResult, write_result
from paligemma2.evaluation.task import Row, Task
from paligemma2.report.card_table import CardTable, Run, card_table
from tests.small_task import EQUAL, small_task

PUBLISHED = (68.0, 72.0, None, None, None, None)


def small_row(row: str = "Colours (val)", value: float = 0.7, **changes: Any) -> RowResult:
    given = {
        "row": row,
        "metric": "equality",
        "value": value,
        "interval": (value - 0.05, value + 0.04),
        "num_scored": 6,
        "num_rows": 6,
        "splits": ("val",),
    }
    return RowResult(**{**given, **changes})


def small_result(*rows: RowResult, **changes: Any) -> TaskResult:
    given = {
        "task": "colours",
        "model": "runs/colours-3b",
        "column": "224-3B",
        "fingerprint": "0123456789abcdef",
        "mode": "paligemma",
        "protocol": {"prefix": "answer en {question}", "final_cap": None, "hash": "5eed"},
        "rows": rows or (small_row(),),
        "seconds": 12.5,
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"paligemma2": "0.1.0", "torch": "2.11.0"},
    }
    return TaskResult(**{**given, **changes})


def save_run(folder: Path, result: TaskResult) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_result(folder, result)
    return folder


def save_predictions(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """A file of predictions; what a line does not say is made up."""
    header = Header(protocol={"hash": "5eed"}, model="runs/colours-3b", fingerprint="0123456789abcdef")
    made = []
    for index, line in enumerate(lines):
        given = {"id": str(index), "index": index, "prompt": "what?", "log_prob": -0.5, **line}
        made.append(
            Prediction(**{**given, "answers": tuple(line["answers"]), "images": tuple(line["images"])})
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, header, made)
    return path


def save_drawing(path: Path, colour: str = "teal", size: tuple[int, int] = (320, 240)) -> Path:
    """A picture of a disc on a plain ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, "#e8e4da")
    side = min(size)
    ImageDraw.Draw(picture).ellipse((side // 5, side // 5, side * 4 // 5, side * 4 // 5), fill=colour)
    picture.save(path)
    return path


def task_with(row_title: str = "Colours (val)", /, **changes: Any) -> Task:
    """The small task with numbers of the card."""
    row = Row(title=row_title, splits=("val",), metric=EQUAL, published=PUBLISHED, num_examples=6)
    return small_task(**{"rows": (row,), **changes})


TASKS = {"colours": task_with()}


def table_of(
    *results: TaskResult, has_all_rows: bool = False, tasks: Mapping[str, Task] = TASKS
) -> CardTable:
    runs = [Run(folder=Path(str(i)), result=result) for i, result in enumerate(results)]
    return card_table(runs, tasks, has_all_rows=has_all_rows)
