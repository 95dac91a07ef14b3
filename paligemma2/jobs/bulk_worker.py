"""What each worker of a bulk job does: it loads the model once, and answers one unit after the other."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from paligemma2 import errors
from paligemma2.data.rows import UnusableRow
from paligemma2.errors import InputError, PaliGemmaError
from paligemma2.evaluation.predict import Asked, Unreadable, predict_batch
from paligemma2.evaluation.predictions import Prediction
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.bulk_asking import Asker
from paligemma2.jobs.bulk_output import BulkOutput, BulkPrediction
from paligemma2.jobs.bulk_sources import BulkProblem, BulkRow, Unit, from_table
from paligemma2.optional import require


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a unit.

    Attributes:
        unit: its name.
        num_predictions: rows with an answer.
        num_problems: rows without.
        was_there: another try had finished it already.
        seconds: that it took.
        machine: where.
        process: its number there.
    """

    unit: str
    num_predictions: int
    num_problems: int
    was_there: bool
    seconds: float
    machine: str
    process: int


class BulkWorker:
    """Answers units and writes their parts; each process has one, which loads the model for its first unit.

    Args:
        asker: who is asked what.
        output: the folder of the job.
    """

    def __init__(self, asker: Asker, output: str) -> None:
        self._asker = asker
        self._output = BulkOutput(output)

    @cached_property
    def _model(self) -> PaliGemma2:
        return self._asker.load()

    def __call__(self, units: Any) -> Any:
        """An Arrow table with a line for each of the units in one, for `told`."""
        arrow = require("pyarrow", extra="ray")
        return arrow.table({"line": [self._line(unit) for unit in from_table(units)]})

    def _line(self, unit: Unit) -> str:
        # Errors of ours travel as lines: of an exception Ray brings the text alone.
        try:
            return json.dumps({"done": asdict(self.do(unit))})
        except PaliGemmaError as error:
            return json.dumps({"error": [type(error).__name__, error.message, error.hint]})

    def do(self, unit: Unit) -> Done:
        """Answer a unit and write its part, unless it is there from a try whose end nobody heard of.

        Raises:
            InputError: no such model, device or adapter.
            ConfigError: the adapter has settings that are not supported.
            CheckpointError: the files of the model are damaged.
            WorkError: the folder cannot be written, the device's memory is too small, or the unit has killed
                several workers.
        """
        start = time.monotonic()
        was_there = self._output.has(unit.name)
        if was_there:
            num_predictions, num_problems = self._output.counts(unit.name)
        else:
            with self._output.trying(unit.name, unit.place):
                predictions, problems = answer_rows(self._model, self._asker, unit.rows)
                problems = [*unit.problems, *problems]
                self._output.write(unit.name, predictions, problems)
            num_predictions, num_problems = len(predictions), len(problems)
        return Done(
            unit=unit.name,
            num_predictions=num_predictions,
            num_problems=num_problems,
            was_there=was_there,
            seconds=time.monotonic() - start,
            machine=platform.node(),
            process=os.getpid(),
        )


def told(line: str) -> Done:
    """What a worker told of a unit.

    Raises:
        PaliGemmaError: the error that the worker met, as it was.
    """
    content = json.loads(line)
    if "error" in content:
        name, message, hint = content["error"]
        kind: type[PaliGemmaError] = getattr(errors, name)
        raise kind(message, hint=hint)
    return Done(**content["done"])


def answer_rows(
    model: PaliGemma2, asker: Asker, rows: Sequence[BulkRow]
) -> tuple[list[BulkPrediction], list[BulkProblem]]:
    """Answers to rows, in order, and what keeps the other rows from being answered.

    Raises:
        WorkError: the device's memory is too small.
    """
    predictions: list[BulkPrediction] = []
    problems: list[BulkProblem] = []
    by_source = {row.source: row for row in rows}
    for start in range(0, len(rows), asker.batch_size):
        batch: list[Asked] = []
        for row in rows[start : start + asker.batch_size]:
            try:
                batch.append(Asked(id=row.source, index=len(batch), example=asker.example(row)))
            except UnusableRow as problem:
                problems.append(_problem(row.source, problem.reason, problem.detail))
        for found in _answers(model, asker, batch, problems):
            if isinstance(found, Unreadable):
                problems.append(_problem(found.id, "the picture cannot be read", found.reason))
            else:
                predictions.append(_row(found, by_source[found.id]))
    return predictions, problems


def _answers(
    model: PaliGemma2, asker: Asker, batch: list[Asked], problems: list[BulkProblem]
) -> list[Prediction | Unreadable]:
    """Of a batch; if one of its rows cannot be asked about, of each by itself."""
    try:
        return predict_batch(model, batch, asker.decoding) if batch else []
    except InputError as error:
        if len(batch) > 1:
            return [found for each in batch for found in _answers(model, asker, [each], problems)]
        problems.append(_problem(batch[0].id, "the row cannot be asked about", error.message))
        return []


def _problem(source: str, reason: str, detail: str) -> BulkProblem:
    return BulkProblem(source=source, reason=reason, detail=detail)


def _row(found: Prediction, row: BulkRow) -> BulkPrediction:
    return BulkPrediction(
        source=row.source,
        id=row.id,
        prompt=found.prompt,
        prediction=found.prediction,
        answers=found.answers,
        finish_reason=found.finish_reason,
        log_prob=found.log_prob,
        seconds=found.seconds,
        unit=found.unit,
        meta=json.dumps(found.meta, ensure_ascii=False, default=str),
        fields=row.fields,
    )
