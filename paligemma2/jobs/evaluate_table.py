"""Results as a table for people: the number, how sure it is, and the card's beside it."""

from collections.abc import Sequence

from paligemma2 import tasks
from paligemma2.evaluation.result import RowResult, TaskResult
from paligemma2.evaluation.task import COLUMNS, Task
from paligemma2.jobs.evaluate_config import task_name

HEADER = ("model", "row", "metric", "value", "95 %", "card", "scored")
NO_NUMBER = "–"


def result_rows(results: Sequence[TaskResult], names: Sequence[str]) -> list[tuple[str, ...]]:
    """A line for each row of each result, under `HEADER`; numbers are times 100, as the card's.

    What is no whole evaluation of an unspoiled model has no number of the card beside it.

    Args:
        results: of models and tasks.
        names: of the tasks as they were asked for, which may be files.
    """
    known = {task_name(name): tasks.load(name) for name in names}
    return [
        (
            result.model + (f" ({result.control})" if result.control else ""),
            row.row,
            row.metric,
            _hundredths(row.value),
            " to ".join(map(_hundredths, row.interval)),
            card_number(result, row, known[result.task]),
            f"{row.num_scored} of {row.num_rows}",
        )
        for result in results
        for row in result.rows
    ]


def card_number(result: TaskResult, row: RowResult, task: Task) -> str:
    """The card's number for a row, or why it is not to be compared with."""
    if result.column not in COLUMNS:
        return NO_NUMBER
    found = next(each for each in task.rows if each.title == row.row)
    number = found.published[COLUMNS.index(result.column)]
    if number is None or result.control:
        return NO_NUMBER
    is_all = result.limit is None and row.num_scored == row.num_rows
    return f"{number:.1f}" if is_all and not found.is_other_data(row.num_rows) else "partial"


def _hundredths(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f}"  # no "-0.0"
