"""What each worker of a bulk job does: it loads the model once, and answers one unit after the other."""

import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from string import Formatter
from typing import Any

import torch
from PIL import Image

from paligemma2 import errors
from paligemma2.errors import ImageError, InputError, PaliGemmaError, WorkError
from paligemma2.inference.devices import Dtype
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import GREEDY, PaliGemma2
from paligemma2.inference.settings import check_decoding
from paligemma2.jobs.bulk_output import BulkOutput, BulkPrediction
from paligemma2.jobs.bulk_sources import BulkProblem, BulkRow, Unit, from_table
from paligemma2.model.weight_forms import Quantization
from paligemma2.optional import require
from paligemma2.processing.image import open_image
from paligemma2.types import Decoding, Generation


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Who is asked, what, and how.

    Attributes:
        prompt: with fields of the row in braces: "answer en {question}".
        model: "tiny", a folder, a `.npz` or a hub id; each machine must find it under this name.
        adapter: see `paligemma2.load`; a folder, or "".
        decoding: how tokens are chosen.
        batch_size: rows that a worker asks about at once.
        device: see `paligemma2.load`.
        dtype: see `paligemma2.load`.
        quantize: see `paligemma2.load`.

    Raises:
        InputError: a setting is out of range, or the braces of the prompt do not match.
    """

    prompt: str
    model: str = "tiny"
    adapter: str = ""
    decoding: Decoding = GREEDY
    batch_size: int = 8
    device: str = "auto"
    dtype: Dtype = "auto"
    quantize: Quantization | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}", hint="give at least 1")
        check_decoding(self.decoding)
        try:
            names = list(prompt_fields(self.prompt))
        except ValueError as error:
            raise InputError(
                f"the prompt {self.prompt!r} cannot be filled in: {error}", hint="write {{ for a brace"
            ) from error
        if not all(names):
            raise InputError(f"the prompt {self.prompt!r} names no field in {{}}", hint="as {question}")


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
        asking: who is asked and how.
        output: the folder of the job.
    """

    def __init__(self, asking: Asking, output: str) -> None:
        self._asking = asking
        self._output = BulkOutput(output)

    @cached_property
    def _model(self) -> PaliGemma2:
        asking = self._asking
        return load(
            asking.model,
            device=asking.device,
            dtype=asking.dtype,
            quantize=asking.quantize,
            adapter=asking.adapter or None,
        )

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
                predictions, problems = answer_rows(self._model, self._asking, unit.rows)
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


def prompt_fields(prompt: str) -> Iterator[str]:
    """The names of the fields in a prompt: "question" of "answer en {question}".

    Raises:
        ValueError: the braces do not match.
    """
    for _, name, _, _ in Formatter().parse(prompt):
        if name is not None:
            yield name.partition(".")[0].partition("[")[0]


def answer_rows(
    model: PaliGemma2, asking: Asking, rows: Sequence[BulkRow]
) -> tuple[list[BulkPrediction], list[BulkProblem]]:
    """Answers to rows, in order, and what keeps the other rows from being answered.

    Raises:
        WorkError: the device's memory is too small.
    """
    predictions: list[BulkPrediction] = []
    problems: list[BulkProblem] = []
    for start in range(0, len(rows), asking.batch_size):
        opened = []
        for row in rows[start : start + asking.batch_size]:
            try:
                opened.append(_open(row, asking.prompt))
            except _Unasked as problem:
                problems.append(problem.of(row))
        if opened:
            _answer(model, asking, opened, predictions, problems)
    return predictions, problems


class _Unasked(Exception):
    def __init__(self, reason: str, detail: object) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, str(detail)

    def of(self, row: BulkRow) -> BulkProblem:
        return BulkProblem(source=row.source, reason=self.reason, detail=self.detail)


@dataclass(frozen=True)
class _Opened:
    row: BulkRow
    prompt: str
    pictures: tuple[Image.Image, ...]


def _open(row: BulkRow, prompt: str) -> _Opened:
    fields: Mapping[str, Any] = json.loads(row.fields)
    empty = [name for name in prompt_fields(prompt) if fields.get(name) is None]
    if empty:
        raise _Unasked("the row lacks a field of the prompt", empty[0])
    try:
        text = prompt.format_map(fields)
    except (LookupError, AttributeError, ValueError, TypeError) as error:
        raise _Unasked("the prompt cannot be filled in", error) from error
    try:
        return _Opened(row, text, tuple(open_image(image) for image in row.images))
    except ImageError as error:
        raise _Unasked("the picture cannot be read", error.message) from error


def _answer(
    model: PaliGemma2,
    asking: Asking,
    asked: Sequence[_Opened],
    predictions: list[BulkPrediction],
    problems: list[BulkProblem],
) -> None:
    """Answer a batch; if one of its rows cannot be asked about, each by itself."""
    try:
        generations = model.generate(
            [each.pictures for each in asked], [each.prompt for each in asked], decoding=asking.decoding
        )
    except torch.OutOfMemoryError as error:
        raise WorkError(
            "the memory of the device is too small", hint="give a smaller batch size, and go on"
        ) from error
    except InputError as error:
        if len(asked) == 1:
            problems.append(_Unasked("the row cannot be asked about", error.message).of(asked[0].row))
            return
        for each in asked:
            _answer(model, asking, [each], predictions, problems)
        return
    predictions += map(_prediction, asked, generations)


def _prediction(asked: _Opened, generation: Generation) -> BulkPrediction:
    return BulkPrediction(
        source=asked.row.source,
        id=asked.row.id,
        prompt=asked.prompt,
        answer=generation.text,
        finish_reason=generation.finish_reason,
        num_tokens=len(generation.token_ids),
        log_prob=math.fsum(generation.log_probs),
        fields=asked.row.fields,
    )
