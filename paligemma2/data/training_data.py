"""The batches to train on: sources, order, answers, faults and lengths put together, pure in the step."""

import hashlib
import json
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, TypeAlias

from paligemma2.data.example_store import ExampleStore
from paligemma2.data.loader import load_batches
from paligemma2.data.order import ANSWER_RULES, AnswerRule, EpochOrder, Mixture, choose_question
from paligemma2.data.rows import ProblemCounts
from paligemma2.data.sources import FAULT_POLICIES, DataSource, FaultPolicy, SourceExamples, read_source
from paligemma2.errors import ConfigError, DataError, InputError
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.types import Clip, EditedPicture, Example, ImageSource, StoredPicture

LongTextRule: TypeAlias = Literal["cut", "fault"]
_MAX_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True)
class DataRules:
    """What training does with examples.

    Attributes:
        answers: how one of several answers is chosen, see `data.order.choose_answer`.
        faults: what becomes of an example that cannot be used, as one with a damaged picture: "fail" ends the
            run; "skip" takes another one of the same source, and counts it.
        text_length: longest text in tokens, as in the recipes of big_vision: of bos, prefix, separator and
            suffix without eos; None for all that the context holds.
        long_text: a longer text is "cut" (from the end, eos first) and counted, or a "fault".

    Raises:
        ConfigError: a name or the length makes no sense.
    """

    answers: AnswerRule = "choice_no_replacement"
    faults: FaultPolicy = "fail"
    text_length: int | None = None
    long_text: LongTextRule = "cut"

    def __post_init__(self) -> None:
        for name, known in (
            ("answers", ANSWER_RULES),
            ("faults", FAULT_POLICIES),
            ("long_text", ("cut", "fault")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", hint=f"use one of {', '.join(known)}")
        if self.text_length is not None and self.text_length < 1:
            raise ConfigError(f"text_length is {self.text_length}", hint="give a number above zero")

    @property
    def max_text_tokens(self) -> int | None:
        """With eos, which is predicted only and takes no place in the sequence that big_vision computes."""
        return None if self.text_length is None else self.text_length + 1


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """The batch of a step, and what was done to its examples.

    Attributes:
        inputs: what the model reads.
        skipped: the examples that others stand for, and why, in their order.
        num_cut: examples whose suffix is cut.
    """

    inputs: ModelInputs
    skipped: tuple[str, ...] = ()
    num_cut: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Makes the batch of a step: the same one whenever, in whichever process and however often it is asked.

    Every example of a source comes once per epoch of this source; a batch may hold the end of one epoch and
    the begin of the next. For several processes that train together, let `batch_size` be the share of one:
    what they get of a step is then the batch of one process.

    Attributes:
        sources: the examples of each source, at least one of each.
        processor: of the model.
        batch_size: examples per batch.
        seed: of all orders.
        weights: of the sources; None for one source, or for all alike.
        rules: what to do with examples.
        held_out: examples of all sources to validate on; may be empty.
        problems: what was left out or corrected when the sources were read.
        fingerprint: hexadecimal digest of everything that decides what is learned, except for the seed.
    """

    sources: tuple[Sequence[Example], ...]
    processor: Processor
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    rules: DataRules = field(default_factory=DataRules)
    held_out: Sequence[Example] = ()
    problems: ProblemCounts = field(default_factory=ProblemCounts)
    fingerprint: str = ""

    @property
    def num_examples(self) -> int:
        """Of all sources together."""
        return sum(map(len, self.sources))

    def __call__(self, step: int) -> TrainingBatch:
        """The batch of this step, with what was done to its examples.

        Raises:
            DataError: an example cannot be used, and `rules.faults` is "fail", or too many others cannot.
            MissingExtra: there is a video, and PyAV is not installed.
        """
        pictures, skipped = _Pictures(self.processor), list[str]()
        first = step * self.batch_size
        made = [self._usable(place, pictures, skipped) for place in range(first, first + self.batch_size)]
        return TrainingBatch(
            inputs=self.processor.encode(
                [example for example, _ in made], train=True, max_text_tokens=self.rules.max_text_tokens
            ),
            skipped=tuple(skipped),
            num_cut=sum(is_cut for _, is_cut in made),
        )

    def batch(self, step: int) -> ModelInputs:
        """The batch of this step; raises what calling does."""
        return self(step).inputs

    def batches(
        self,
        start: int,
        stop: int,
        *,
        num_workers: int = 0,
        process: int = 0,
        processes: int = 1,
        on_batch: Callable[[int, TrainingBatch], None] = lambda step, batch: None,
    ) -> Generator[ModelInputs, None, None]:
        """The batches of steps `start` up to `stop` in order, made ahead by processes.

        Args:
            start: first step.
            stop: step to end before.
            num_workers: processes that make batches, see `load_batches`.
            process: number of this one among those that train together.
            processes: how many these are; of each step every one gets another share.
            on_batch: told of each batch before it is given out, in order, so that what it counts depends
                neither on workers nor on where a run was resumed.

        Raises:
            PaliGemmaError: what calling raises, or a worker was killed.
        """
        make = partial(_share, self, process, processes)
        loaded = load_batches(make, start, stop, num_workers=num_workers)
        for step, batch in enumerate(loaded, start=start):
            on_batch(step, batch)
            yield batch.inputs

    def example(self, place: int, attempt: int = 0) -> Example:
        """The example at a place, with the answer whose turn it is; others stand for one that is of no use.

        Where it has variants, question and answer take turns.

        Args:
            place: counts all examples that the run sees, from 0.
            attempt: 0 for the example itself, then one of its source drawn anew for each number.
        """
        source, at = self._mixture(place)
        examples, order = self.sources[source], self._orders[source]
        index = order(at)
        if attempt:
            index = random.Random(f"{self.seed} {place} {attempt}").randrange(len(examples))
        example = examples[index]
        return choose_question(
            example,
            self.rules.answers,
            seed=self.seed,
            name=example.id or str(index),
            visit=at // len(examples),
        )

    @cached_property
    def _mixture(self) -> Mixture:
        return Mixture(self.weights or (1.0,) * len(self.sources), self.seed)

    @cached_property
    def _orders(self) -> tuple[EpochOrder, ...]:
        return tuple(EpochOrder(len(each), self.seed, number) for number, each in enumerate(self.sources))

    def _usable(self, place: int, pictures: "_Pictures", skipped: list[str]) -> tuple[Example, bool]:
        """An example whose pictures are pixels, and whether its suffix will be cut."""
        for attempt in range(_MAX_ATTEMPTS):
            example = self.example(place, attempt)
            try:
                return self._read(example, pictures)
            except InputError as error:  # also ImageError
                if self.rules.faults == "fail":
                    raise DataError(
                        f"example {example.id!r} cannot be used: {error.message}",
                        hint=f"{error.hint}; or train without such examples: --faults skip",
                    ) from error
                skipped.append(f"{example.id}: {error.message}")
        raise DataError(
            f"{_MAX_ATTEMPTS} examples, one after the other, cannot be used (the last: {skipped[-1]})",
            hint="is the folder of the pictures still there?",
        )

    def _read(self, example: Example, pictures: "_Pictures") -> tuple[Example, bool]:
        _, suffix = self.processor.training_row(example, self.rules.max_text_tokens)
        is_cut = suffix[-1] != self.processor.tokenizer.eos_id
        if is_cut and self.rules.long_text == "fault":
            raise InputError(
                f"the text is longer than {self.rules.text_length} tokens",
                hint="shorten the text, or allow longer ones",
            )
        read = tuple(frame for image in example.images for frame in pictures.frames(image))
        return replace(example, images=read), is_cut


def _share(data: TrainingData, process: int, processes: int, step: int) -> TrainingBatch:
    return data(step * processes + process)


class _Pictures:
    """Reads the pictures of a batch, each of them once."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        # With the picture itself, so that its id is not given to another one.
        self._read: dict[object, tuple[ImageSource | Clip, tuple[ImageSource, ...]]] = {}

    def frames(self, image: ImageSource | Clip) -> tuple[ImageSource, ...]:
        """The picture, or the pictures of a clip, as `Processor.pixels` gives them."""
        key = image if isinstance(image, StoredPicture | EditedPicture | Clip) else id(image)
        if key not in self._read:
            self._read[key] = image, self._made(image)
        return self._read[key][1]

    def _made(self, image: ImageSource | Clip) -> tuple[ImageSource, ...]:
        if isinstance(image, Clip):
            return self._processor.frames(image)
        return (self._processor.pixels(image),)


def open_training_data(
    sources: Sequence[DataSource],
    processor: Processor,
    *,
    batch_size: int,
    seed: int,
    rules: DataRules | None = None,
) -> TrainingData:
    """Read one source or a weighted mixture of several to train on.

    Args:
        sources: at least one.
        processor: of the model.
        batch_size: examples per batch.
        seed: of all orders.
        rules: what to do with examples; None for the defaults.

    Raises:
        DataError: a source cannot be used, see `data.sources.read_source`.
        InputError: no source, or there is no such format.
        ConfigError: a weight is too small beside the others.
        MissingExtra: a format needs a library that is not installed.
    """
    if not sources:
        raise InputError("no data to train on", hint="give at least one source")
    rules = DataRules() if rules is None else rules
    read = [read_source(source, faults=rules.faults) for source in sources]
    weights = tuple(source.weight for source in sources) if len(sources) > 1 else None
    if weights is not None:
        Mixture(weights, seed)  # refuses weights that cannot be had
    return TrainingData(
        sources=tuple(found.train for found in read),
        processor=processor,
        batch_size=batch_size,
        seed=seed,
        weights=weights,
        rules=rules,
        held_out=_held_out(read),
        problems=_problems(read),
        fingerprint=_fingerprint(read, weights, rules),
    )


def _held_out(read: Sequence[SourceExamples]) -> Sequence[Example]:
    if len(read) == 1:
        return read[0].held_out
    together = ExampleStore()
    for found in read:
        for example in found.held_out:
            together.append(example)
    return together


def _problems(read: Sequence[SourceExamples]) -> ProblemCounts:
    together = ProblemCounts()
    for found in read:
        together.skipped += found.problems.skipped
        together.noted += found.problems.noted
        together.problems += found.problems.problems
    return together


def _fingerprint(read: Sequence[SourceExamples], weights: tuple[float, ...] | None, rules: DataRules) -> str:
    # Without `rules.faults`: a run that failed at a damaged picture may go on by skipping it.
    decisive = [rules.answers, rules.text_length, rules.long_text]
    parts = [[found.fingerprint for found in read], weights, decisive]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
