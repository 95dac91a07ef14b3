"""A data set to another format, row by row."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from paligemma2.checkpoint.atomic import new_folder
from paligemma2.checkpoint.mask_codec_files import (
    LoadedMaskCodec,
    check_mask_codec,
    load_mask_codec,
    record_mask_codec,
    recorded_mask_codec,
)
from paligemma2.data.registry import Format, RowWriter, find_format, format_named, open_data
from paligemma2.data.row_tasks import TASKS, MaskCoding, Task, to_objects, to_text
from paligemma2.data.rows import DataRow, OnProblem, ProblemCounts, UnusableRow, one_per_answer
from paligemma2.errors import DataError, InputError
from paligemma2.jobs.mask_reading import coding_of


@dataclass(frozen=True, kw_only=True)
class DataConvertConfig:
    """What `run` needs.

    Attributes:
        source: folder or file of the data set.
        destination: the new folder.
        to: format to write, a name of `data.registry.FORMATS`.
        format: of the source; None finds it out.
        split: only this one; None converts all.
        task: what rows become, see `data.row_tasks`; None keeps text and makes `detect` of objects.
        all_labels: every `detect` asks for all labels of the data set, so that a model learns what is not
            there; otherwise for those in the picture.
        mask_codec: whose codes mask tokens are: "default" or a file.
    """

    source: Path
    destination: Path
    to: str
    format: str | None = None
    split: str | None = None
    task: Task | None = None
    all_labels: bool = False
    mask_codec: str | Path = "default"

    def __post_init__(self) -> None:
        format_named(self.to)
        if self.task is not None and self.task not in TASKS:
            raise InputError(f"{self.task!r} is not a task", hint=f"use one of {', '.join(TASKS)}")
        if self.all_labels and self.task not in (None, "detect"):
            raise InputError(f"all_labels does not go with {self.task!r}", hint="it is for 'detect' prompts")
        if self.destination.resolve().is_relative_to(self.source.resolve()):
            raise InputError(
                f"{self.destination} is inside of {self.source}", hint="give another destination"
            )


@dataclass(kw_only=True)
class DataConvertReport(ProblemCounts):
    """What became of the rows; besides what was wrong with them.

    Attributes:
        format: of the source.
        read: rows that the reader gave.
        written: rows written, by split; `segment` makes several of one.
    """

    format: str
    read: int = 0
    written: Counter[str] = field(default_factory=Counter)


def run(config: DataConvertConfig, on_row: Callable[[int], None] = lambda done: None) -> DataConvertReport:
    """Convert a data set; pictures are copied, so that the new folder is whole in itself.

    The folder gets its name when everything is written, and is not made at all if something fails.

    Args:
        config: from where to where.
        on_row: called with the number of rows read so far.

    Raises:
        DataError: there is no data set, a file of it is damaged, or none of its rows can be written.
        InputError: the destination exists.
        CheckpointError: the mask tokens of the data set belong to another codec.
        MissingExtra: a format needs a library that is not installed.
        WorkError: the disk is full; nothing is left behind.
    """
    report = DataConvertReport(format=config.format or find_format(config.source))
    target, codec = format_named(config.to), _codec(config)
    labels = _labels(config) if config.all_labels else ()
    rows = open_data(config.source, format=report.format, split=config.split, on_problem=report.add)
    with new_folder(config.destination) as folder:
        with closing(target.writer(folder, report.add)) as writer:
            for row in rows:
                report.read += 1
                _convert(row, config.task, target, writer, report, codec, labels)
                on_row(report.read)
        if not report.written:
            raise _nothing_written(config, report)
        if codec is not None and target.holds == "text":
            record_mask_codec(folder, codec.record)
    return report


def _labels(config: DataConvertConfig) -> tuple[str, ...]:
    """All labels of the data set, also of splits that are not converted, sorted."""
    rows = open_data(config.source, format=config.format, on_problem=lambda problem: None)
    return tuple(sorted({thing.label.strip() for row in rows for thing in row.objects if not thing.is_crowd}))


def _codec(config: DataConvertConfig) -> LoadedMaskCodec | None:
    if config.task != "segment":
        return None
    codec = load_mask_codec(config.mask_codec)
    if config.source.is_dir() and recorded_mask_codec(config.source) is not None:
        check_mask_codec(config.source, codec)
    return codec


def _convert(
    row: DataRow,
    task: Task | None,
    target: Format,
    writer: RowWriter,
    report: DataConvertReport,
    codec: LoadedMaskCodec | None,
    labels: tuple[str, ...],
) -> None:
    coding = None if codec is None else coding_of(codec.codec)
    try:
        for made in _made(row, task, target, report.add, coding, labels):
            writer.write(made)
            report.written[made.split] += 1
    except UnusableRow as problem:
        named = UnusableRow(problem.reason, problem.detail or f"row {row.id}")
        report.add(named.problem(row.file, row.line))


def _made(
    row: DataRow,
    task: Task | None,
    target: Format,
    on_problem: OnProblem,
    coding: MaskCoding | None,
    labels: tuple[str, ...],
) -> Iterator[DataRow]:
    for one in (row,) if target.holds_answers else one_per_answer(row):
        if target.holds == "text":
            yield from to_text(one, task, on_problem, coding, labels)
        else:
            yield to_objects(one, task, on_problem, coding)


def _nothing_written(config: DataConvertConfig, report: DataConvertReport) -> DataError:
    what = f"{config.source}: none of {report.read} rows can be written as {config.to}"
    if config.split is not None and not report.read:
        return DataError(f"{config.source} has no rows of split {config.split!r}", hint="leave --split out")
    reasons = [f"{count} × {reason}" for reason, count in report.skipped.most_common(3)]
    return DataError(what, hint="; ".join(reasons) or "the data set is empty")
