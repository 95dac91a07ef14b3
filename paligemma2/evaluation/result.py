"""What an evaluation found: a file of JSON that reports are made of."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paligemma2.checkpoint.atomic import write_json
from paligemma2.errors import DataError
from paligemma2.metrics.scores import Mode

RESULT = "result.json"
"""The name of the file, in the folder of a run and a task, beside the predictions of each split."""


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """The number of a row of the card.

    Attributes:
        row: its title.
        metric: name.
        value: as a fraction; tables print it times 100.
        interval: the middle 95 % of bootstrap samples, as fractions.
        num_scored: examples with a prediction.
        num_rows: examples that the splits of the row have.
        splits: of the task, each with its own number in `parts`.
        parts: further numbers, as that of each split or of each type of question.
    """

    row: str
    metric: str
    value: float
    interval: tuple[float, float]
    num_scored: int
    num_rows: int
    splits: tuple[str, ...]
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The rows of a task for one model.

    Attributes:
        task: its name.
        model: as it was named.
        column: of the card that it belongs to, "224-3B"; "" for a model of another size.
        fingerprint: of the weights.
        mode: which rules the metrics follow.
        protocol: what decides the numbers, with its hash under "hash".
        rows: in the order of the task.
        missing: for each split, names of pictures that were not there.
        limit: so many rows of each split were drawn; None for all.
        seed: of that choice.
        control: "" for the model itself; else what was spoiled on purpose, "shuffled pictures".
        seconds: that predicting and scoring took, over all its starts.
        date: ISO 8601.
        versions: of this package, Python and PyTorch.
    """

    task: str
    model: str
    column: str
    fingerprint: str
    mode: Mode
    protocol: Mapping[str, Any]
    rows: tuple[RowResult, ...]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    control: str = ""
    seconds: float = 0.0
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every example was scored, so that the number may stand beside the card's."""
        return self.limit is None and all(row.num_scored == row.num_rows for row in self.rows)


def write_result(folder: Path, result: TaskResult) -> None:
    """Write `result.json` into a folder; whole or not at all."""
    write_json(folder / RESULT, dataclasses.asdict(result))


def read_results(folder: Path) -> list[TaskResult]:
    """All results in a folder and below, in the order of their paths.

    Raises:
        DataError: there is none, or a file is damaged.
    """
    paths = sorted(folder.rglob(RESULT))
    if not paths:
        raise DataError(f"{folder} holds no {RESULT}", hint="make one: paligemma2 evaluate")
    return [_read(path) for path in paths]


def _read(path: Path) -> TaskResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(
            RowResult(**{**row, "interval": tuple(row["interval"]), "splits": tuple(row["splits"])})
            for row in content.pop("rows")
        )
        missing = {split: tuple(names) for split, names in content.pop("missing").items()}
        return TaskResult(**content, rows=rows, missing=missing)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="evaluate again") from error
