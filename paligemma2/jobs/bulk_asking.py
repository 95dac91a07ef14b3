"""What workers of a bulk job ask about a row: a prompt with fields of the row in it, or what a task asks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Protocol

from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.verify import weights_digest
from paligemma2.data.readers.records import Record
from paligemma2.data.rows import UnusableRow
from paligemma2.errors import DataError, InputError
from paligemma2.evaluation.examples import EvaluationExample, example_of
from paligemma2.evaluation.protocol import HASH, decoding_of, split_protocol
from paligemma2.evaluation.task import Task
from paligemma2.inference.devices import Dtype
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import GREEDY, PaliGemma2
from paligemma2.inference.settings import check_decoding
from paligemma2.jobs.bulk_sources import BulkRow
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.jobs.evaluate_model import EvaluatedModel, model_facts
from paligemma2.metrics.scores import Reference
from paligemma2.model.weight_forms import Quantization
from paligemma2.types import Decoding, Example

NO_FIELD = "the row lacks a field of the prompt"
NOT_FILLED = "the prompt cannot be filled in"


class Asker(Protocol):
    """Asks about rows; travels to the workers, so it is plain values."""

    @property
    def batch_size(self) -> int:
        """Rows that a worker asks about at once."""

    @property
    def decoding(self) -> Decoding:
        """How tokens are chosen."""

    def load(self) -> PaliGemma2:
        """The model, on the machine that calls."""

    def example(self, row: BulkRow) -> EvaluationExample:
        """What is asked about a row; raises `UnusableRow` if nothing can be."""

    def identity(self) -> dict[str, Any]:
        """All that decides the answers, as JSON."""


@dataclass(frozen=True, kw_only=True)
class PromptAsker:
    """Asks a prompt.

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

    def load(self) -> PaliGemma2:
        """See `Asker`."""
        return load(
            self.model,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            adapter=self.adapter or None,
        )

    def example(self, row: BulkRow) -> EvaluationExample:
        """See `Asker`."""
        prefix = _filled(self.prompt, json.loads(row.fields))
        example = Example(images=row.images, prefix=prefix, id=row.id)
        return EvaluationExample(example=example, reference=Reference(unit=row.unit))

    def identity(self) -> dict[str, Any]:
        """See `Asker`; a model of the hub is known by its name alone: it need not be on this machine."""
        asked = asdict(self)
        del asked["batch_size"], asked["device"]  # an interrupted job may go on with others
        if Path(self.model).exists():
            asked["weights"] = weights_digest(open_checkpoint(self.model, may_be_quantized=True))
        return asked


@dataclass(frozen=True, kw_only=True)
class TaskAsker:
    """Asks what a task asks, of a model under the protocol of an evaluation.

    Attributes:
        name: of the task.
        task: the task.
        split: of the task.
        config: of the evaluation, with one model.
    """

    name: str
    task: Task
    split: str
    config: EvaluateConfig

    @property
    def batch_size(self) -> int:
        """See `Asker`."""
        return self.config.batch_size

    @property
    def decoding(self) -> Decoding:
        """See `Asker`."""
        return decoding_of(self.task)

    def load(self) -> PaliGemma2:
        """See `Asker`."""
        facts = model_facts(self.config.models[0], self.config)
        return EvaluatedModel(facts, self.config, self.config.device).under_protocol(self.task)

    def example(self, row: BulkRow) -> EvaluationExample:
        """See `Asker`."""
        fields: Mapping[str, Any] = json.loads(row.fields)
        _filled(self.task.prefix, fields)
        record = Record(id=row.id, pictures=row.images, fields=fields, unit=row.unit)
        try:
            return example_of(self.task, record, row.images)
        except DataError as error:
            raise UnusableRow("the row has no right answer", error.message) from error

    def identity(self) -> dict[str, Any]:
        """See `Asker`."""
        facts = model_facts(self.config.models[0], self.config)
        protocol = split_protocol(self.name, self.task, self.config.settings, self.split)
        return {
            "task": self.name,
            "split": self.split,
            "protocol": protocol[HASH],
            "model": facts.fingerprint,
        }


def prompt_fields(prompt: str) -> Iterator[str]:
    """The names of the fields in a prompt: "question" of "answer en {question}".

    Raises:
        ValueError: the braces do not match.
    """
    for _, name, _, _ in Formatter().parse(prompt):
        if name is not None:
            yield name.partition(".")[0].partition("[")[0]


def _filled(prompt: str, fields: Mapping[str, Any]) -> str:
    _check_fields(prompt, fields)
    try:
        return prompt.format_map(fields)
    except (LookupError, AttributeError, ValueError, TypeError) as error:
        raise UnusableRow(NOT_FILLED, f"{type(error).__name__}: {error}") from error


def _check_fields(prompt: str, fields: Mapping[str, Any]) -> None:
    for name in prompt_fields(prompt):
        if fields.get(name) is None:
            raise UnusableRow(NO_FIELD, name)
