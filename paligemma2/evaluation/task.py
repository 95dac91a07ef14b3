"""A benchmark as a literal: what is read, asked, answered and counted, and what was published."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from paligemma2.data.order import AnswerRule
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.data.readers.records import Reader
from paligemma2.errors import ConfigError
from paligemma2.evaluation.targets import Target
from paligemma2.metrics.scores import Metric
from paligemma2.training.recipes import TransferRecipe

COLUMNS = ("224-3B", "224-10B", "224-28B", "448-3B", "448-10B", "448-28B")
"""Of the card's table: pixels and size."""
Published: TypeAlias = tuple[
    float | None, float | None, float | None, float | None, float | None, float | None
]
_SAME_DATA = 0.8
"""Of the examples: a few pictures of most data sets are gone from the web."""
_SPLIT = re.compile(r"(?P<name>\w+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the card.

    Attributes:
        title: as on the card, "RefCOCO (testA)".
        splits: keys of `Task.splits`, maybe with a part, "val[-10240:]"; the number is the mean of theirs.
        metric: how each split is scored.
        published: the card's number in each of `COLUMNS` (PaliGemma 2, arXiv:2412.03555, table 13).
        num_examples: of all its splits together, as the paper or the data set counts them; None where no
            source says. Decides nothing: plans and notes on coverage are made of it.
    """

    title: str
    splits: tuple[str, ...]
    metric: Metric
    published: Published = (None,) * 6
    num_examples: int | None = None

    def is_other_data(self, num_rows: int) -> bool:
        """Whether files with so many examples are a part of the data set only, or a miniature of it."""
        return self.num_examples is not None and num_rows < _SAME_DATA * self.num_examples


@dataclass(frozen=True)
class Frames:
    """Which frames of a video the model sees: the first, and every `stride`-th after it."""

    count: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class Download:
    """Something to fetch before a task can be run.

    Attributes:
        what: in words, "questions and answers".
        url: where it is.
        gigabytes: its size, about; None where no source says.
        licence: as its authors state it; "not stated" where they do not.
    """

    what: str
    url: str
    licence: str
    gigabytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class HubTable:
    """The data set as the Hugging Face hub has it.

    Attributes:
        id: `owner/name`.
        splits: those that it has, by the names of `Task.splits`.
    """

    id: str
    splits: Mapping[str, ParquetRecords]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark. Everything that decides its numbers is here, and in the hash of its protocol.

    Attributes:
        title: of the data set.
        source: who made it, "Acharya et al. 2019, arXiv:1810.12440".
        splits: what can be read, by name.
        prefix: the prompt, with the fields of a row in braces: "answer en {question}".
        suffix: the right answers to train on.
        rows: of the card; the first is what training is validated on.
        text_length: of prompt and answer together in training; of the answer when it is decoded, in tokens.
        references: the right answers to score by, where those are others than `suffix`.
        meta: fields that the metric reads, of rows that have them.
        train: splits that the model of the row was trained on, "train + val[:-10240]"; "" for zero-shot rows.
        tune: (training, validation) splits for choosing hyper-parameters, as the paper did; or None.
        answer_rule: how one of several right answers is chosen in training, see `data.order.choose_answer`.
        recipe: hyper-parameters of the transfer; None for zero-shot rows.
        transfer_from: name of the task whose model a zero-shot task is asked of.
        beams: how many answers are kept side by side; 1 is greedy.
        frames: of videos.
        num_pictures: of each example, where it is no video.
        antialias: whether pictures are averaged when they shrink, in evaluation.
        train_antialias: in training; None is as in evaluation.
        final_cap: soft-cap of the output logits; None is without, as in the paper's transfers.
        attention_cap: soft-cap of the attention logits.
        window: sliding window of the decoder; None is without.
        exact: whether the public data and code allow the same evaluation as the paper's.
        inexact_reason: why not, for people.
        hub: where the hub has it too, with the same rows.
        downloads: what to fetch.
        test_split: the split whose right answers only a server knows; its submission file is written.
        submission: key of `evaluation.submissions.WRITERS`, what the server takes; "" for none.
        miniature: key of the kind of content that `paligemma2 data make` draws for it.
        notes: what else is known or in doubt, for `docs/benchmarks.md`.
        num_train: examples of `train`, as the paper counts them; None where no source says. Decides nothing.

    Raises:
        ConfigError: it contradicts itself.
    """

    title: str
    source: str
    splits: Mapping[str, Reader]
    prefix: str
    suffix: Target
    rows: tuple[Row, ...]
    text_length: int
    references: Target | None = None
    meta: tuple[str, ...] = ()
    train: str = ""
    tune: tuple[str, str] | None = None
    answer_rule: AnswerRule = "choice_no_replacement"
    recipe: TransferRecipe | None = None
    transfer_from: str = ""
    beams: int = 1
    frames: Frames | None = None
    num_pictures: int = 1
    antialias: bool = True
    train_antialias: bool | None = None
    final_cap: float | None = None
    attention_cap: float | None = 50.0
    window: int | None = None
    exact: bool = True
    inexact_reason: str = ""
    hub: HubTable | None = None
    downloads: tuple[Download, ...] = ()
    test_split: str = ""
    submission: str = ""
    miniature: str = ""
    notes: tuple[str, ...] = field(default=())
    num_train: int | None = None

    def __post_init__(self) -> None:
        name = self.title
        if bool(self.transfer_from) == (self.recipe is not None):
            raise ConfigError(f"{name}: give either a recipe or transfer_from", hint="correct the task")
        if bool(self.train) != (self.recipe is not None):
            raise ConfigError(f"{name}: a recipe needs train, and train a recipe", hint="correct the task")
        if self.exact == bool(self.inexact_reason):
            raise ConfigError(f"{name}: exact is {self.exact}", hint="give inexact_reason where it is not")
        if not self.rows:
            raise ConfigError(f"{name}: no rows", hint="give at least one")
        named = [split for row in self.rows for split in row.splits]
        for text in (*named, self.train, *(self.tune or ()), self.test_split):
            for part in parse_splits(text) if text else ():
                if part.name not in self.splits:
                    raise ConfigError(f"{name}: there is no split {part.name!r}", hint="add it to splits")
        if self.hub is not None and not self.hub.splits.keys() <= self.splits.keys():
            raise ConfigError(f"{name}: the hub has other splits", hint="use the names of splits")


@dataclass(frozen=True, kw_only=True)
class SplitPart:
    """A split, or the rows of it from `start` up to `stop`: numbers, or fractions as "2%"."""

    name: str
    start: str = ""
    stop: str = ""

    def bounds(self, count: int) -> tuple[int, int]:
        """The first row and the one to end before, of `count` rows in all."""
        span = slice(_place(self.start, count), _place(self.stop, count))
        first, last, _ = span.indices(count)
        return first, last


def parse_splits(text: str) -> tuple[SplitPart, ...]:
    """The parts of "train + val[:-10240]", in order.

    Raises:
        ConfigError: it is written in another way.
    """
    parts = []
    for piece in text.split("+"):
        match = _SPLIT.fullmatch(piece.strip())
        if match is None:
            raise ConfigError(f"{text!r} does not name splits", hint="write train + val[:-10240]")
        parts.append(SplitPart(name=match["name"], start=match["start"] or "", stop=match["stop"] or ""))
    return tuple(parts)


def _place(text: str, count: int) -> int | None:
    if not text:
        return None
    if not text.endswith("%"):
        return int(text)
    place = round(count * float(text[:-1].removeprefix("-")) / 100)
    return count - place if text.startswith("-") else place  # -0 would be the first row, not the end
