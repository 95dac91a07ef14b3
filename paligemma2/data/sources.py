"""Data sets to train on, in any format, as examples that are read once and then found by their number."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from paligemma2.data.example_store import ExampleStore
from paligemma2.data.pictures import picture_identity, picture_num_bytes
from paligemma2.data.registry import open_data
from paligemma2.data.row_tasks import to_text
from paligemma2.data.rows import DataRow, ProblemCounts, RowProblem, UnusableRow, canonical_split
from paligemma2.errors import DataError, InputError
from paligemma2.types import Clip, Example

FaultPolicy: TypeAlias = Literal["fail", "skip"]
FAULT_POLICIES: tuple[FaultPolicy, ...] = ("fail", "skip")
_HELD_OUT = ("valid", "test")
_SHOWN = 3
_MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set to train on.

    Attributes:
        path: folder or file, in any format of `data.registry`.
        weight: how much of a mixture it is, in proportion to the other weights.
        format: a name of `data.registry.FORMATS`; None finds it out.
        split: what is trained on.

    Raises:
        InputError: the weight is not a positive number.
    """

    path: Path
    weight: float = 1.0
    format: str | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise InputError(f"the weight of {self.path} is {self.weight}", hint="give a positive number")


def parse_source(text: str) -> DataSource:
    """The source that `PATH` or `PATH=WEIGHT` names; a path that exists is taken as it is.

    Raises:
        InputError: the weight is not a positive number.
    """
    path, sign, weight = text.rpartition("=")
    if not sign or Path(text).exists():
        return DataSource(path=Path(text))
    try:
        return DataSource(path=Path(path), weight=float(weight))
    except ValueError:
        raise InputError(f"{text!r} has no number behind '='", hint="write PATH or PATH=WEIGHT") from None


@dataclass(kw_only=True)
class SourceExamples:
    """What a source holds.

    Attributes:
        train: examples to train on, in the order of the files.
        held_out: those of the split "valid", or of "test" where there is none; may be empty.
        problems: what was left out or corrected.
        fingerprint: hexadecimal digest of the texts, picture names and picture sizes of `train`.
    """

    train: ExampleStore = field(default_factory=ExampleStore)
    held_out: ExampleStore = field(default_factory=ExampleStore)
    problems: ProblemCounts = field(default_factory=ProblemCounts)
    fingerprint: str = ""


def read_source(
    source: DataSource, *, faults: FaultPolicy = "fail", is_trained_on: bool = True
) -> SourceExamples:
    """All examples of a source, with every picture known to exist.

    Objects become `detect` prompts; pictures without objects are left out and noted.

    Args:
        source: what to read.
        faults: "skip" leaves out what cannot be used, and counts it; "fail" refuses the source.
        is_trained_on: there must be something to train on; otherwise held-out examples alone will do.

    Raises:
        DataError: there is no such data set or split, rows cannot be used, or pictures inside of files that
            cannot be read anywhere do not fit the memory.
        InputError: there is no such format.
        MissingExtra: the format needs a library that is not installed.
    """
    found, digest = SourceExamples(), hashlib.sha256()
    wanted = canonical_split(source.split)
    by_split = {split: ExampleStore() for split in (*_HELD_OUT, wanted)}
    for row in open_data(source.path, format=source.format, by_place=True, on_problem=found.problems.add):
        for made in _with_text(row, found.problems):
            if made.split in by_split and (sizes := _sizes(made, found.problems)):
                example = _example(made)
                by_split[made.split].append(example)
                if made.split == wanted:
                    digest.update(_identity(example, sizes))
        _check_memory(source.path, sum(store.num_bytes for store in by_split.values()))
    if faults == "fail" and found.problems.skipped:
        raise _unusable(source.path, found.problems)
    found.train = by_split.pop(wanted)
    if is_trained_on and not found.train:
        raise DataError(
            f"{source.path} has no rows to train on of split {wanted!r}",
            hint="; ".join(map(str, found.problems.problems[:_SHOWN])) or "the data set may be empty",
        )
    found.held_out = next((by_split[split] for split in _HELD_OUT if by_split.get(split)), ExampleStore())
    found.fingerprint = digest.hexdigest()
    return found


def _with_text(row: DataRow, problems: ProblemCounts) -> Iterator[DataRow]:
    if row.suffix is None and all(thing.is_crowd for thing in row.objects):
        reason = "a picture without objects is left out"
        problems.add(RowProblem(file=row.file, line=row.line, reason=reason, is_skipped=False))
        return
    try:
        yield from to_text(row, None, problems.add)
    except UnusableRow as problem:
        problems.add(problem.problem(row.file, row.line))


def _sizes(row: DataRow, problems: ProblemCounts) -> list[int]:
    """The bytes of each picture; none at all, and the problem counted, if one is missing."""
    sizes = []
    for image in row.images:
        size = picture_num_bytes(image)
        if size is not None:
            sizes.append(size)
        else:
            problem = UnusableRow("the picture is missing", Path(str(image)).name)
            problems.add(problem.problem(row.file, row.line))
            return []
    return sizes


def _example(row: DataRow) -> Example:
    return Example(images=row.images, prefix=row.prefix, suffix=row.suffix, answers=row.answers, id=row.id)


def _identity(example: Example, sizes: Sequence[int]) -> bytes:
    names = [picture_identity(image) for image in example.images if not isinstance(image, Clip)]
    return json.dumps([names, list(sizes), example.prefix, example.suffix, example.answers]).encode()


def _check_memory(path: Path, num_bytes: int) -> None:
    if num_bytes > _MAX_BYTES:
        raise DataError(
            f"{path}: its pictures stand inside of files that can only be read from begin to end, and take "
            f"over {_MAX_BYTES / 1024**3:.0f} GB",
            hint="make shards that can be read anywhere: paligemma2 data convert … --to tar",
        )


def _unusable(path: Path, problems: ProblemCounts) -> DataError:
    count = problems.skipped.total()
    skipped = [str(problem) for problem in problems.problems if problem.is_skipped]
    return DataError(
        f"{path}: {count} of its rows cannot be used ({'; '.join(skipped[:_SHOWN])})",
        hint="correct or remove them, or train without them: --faults skip",
    )
