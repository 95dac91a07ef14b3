"""From predictions to the numbers of a task; no model is needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from paligemma2.errors import DataError
from paligemma2.evaluation.bootstrap import SAMPLES, bootstrap_interval
from paligemma2.evaluation.predictions import Prediction
from paligemma2.evaluation.result import RowResult
from paligemma2.evaluation.task import Row
from paligemma2.metrics.scores import Metric, Mode, Reference, Scores

ReadingMasks: TypeAlias = Callable[[Metric], Metric]
"""From a metric with `reads_masks` to the same one that knows how masks are decoded."""


@dataclass(frozen=True, kw_only=True)
class ScoredRow:
    """A row of the card and what it is made of.

    Attributes:
        result: the number with its interval.
        values: for each split the score of each prediction, in their order.
    """

    result: RowResult
    values: Mapping[str, tuple[float, ...]]


def score_row(
    row: Row,
    predictions: Mapping[str, Sequence[Prediction]],
    num_rows: int,
    *,
    mode: Mode = "paligemma",
    reading_masks: ReadingMasks | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> ScoredRow:
    """The number of a row.

    Args:
        row: of a task.
        predictions: of each of its splits.
        num_rows: examples that its splits have, with and without predictions.
        mode: which rules the metric follows.
        reading_masks: for metrics that read masks.
        samples: of the interval.
        seed: of the interval.

    Raises:
        DataError: a split has no predictions, or the metric reads masks and nothing decodes them.
    """
    scores = {
        split: _scores(row, split, predictions.get(split, ()), mode, reading_masks) for split in row.splits
    }
    value = sum(each.value for each in scores.values()) / len(scores)
    units = [[line.unit for line in predictions[split]] for split in row.splits]
    return ScoredRow(
        result=RowResult(
            row=row.title,
            metric=row.metric.name,
            value=value,
            interval=bootstrap_interval(list(scores.values()), units, samples=samples, seed=seed),
            num_scored=sum(len(predictions[split]) for split in row.splits),
            num_rows=num_rows,
            splits=row.splits,
            parts=_parts(scores),
        ),
        values={split: each.values for split, each in scores.items()},
    )


def _scores(
    row: Row, split: str, lines: Sequence[Prediction], mode: Mode, reading_masks: ReadingMasks | None
) -> Scores:
    if not lines:
        raise DataError(f"{row.title}: no predictions of {split!r}", hint="predict the split first")
    metric = row.metric
    if metric.reads_masks:
        if reading_masks is None:
            raise DataError(
                f"{row.title}: {metric.name} reads masks, and nothing decodes them",
                hint="give the mask codec of the model",
            )
        metric = reading_masks(metric)
    references = [Reference(answers=line.answers, unit=line.unit, meta=line.meta) for line in lines]
    return metric([line.prediction for line in lines], references, mode)


def _parts(scores: Mapping[str, Scores]) -> dict[str, float]:
    if len(scores) == 1:
        (only,) = scores.values()
        return dict(only.parts)
    parts = {split: each.value for split, each in scores.items()}
    return parts | {
        f"{split}: {name}": value for split, each in scores.items() for name, value in each.parts.items()
    }
