"""A data set examined before it is trained on: what is broken, leaked, cut off or never learned."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.hub import resolve
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.data.doctor.doctor import DataReport, Doctor
from paligemma2.data.registry import open_data
from paligemma2.data.row_tasks import to_text
from paligemma2.data.rows import DataRow, UnusableRow, one_per_answer
from paligemma2.data.training_data import DataRules
from paligemma2.errors import DataError, InputError
from paligemma2.processing.processor import Processor


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig:
    """What `run` needs.

    Attributes:
        source: folder or file of the data set.
        model: "tiny", a folder, a `.npz` or a hub id; only its configuration and tokenizer are read.
        format: of the data, a name of `FORMATS`; None finds it out.
        text_length: longest text in tokens without eos, as in the recipes (`DataRules.text_length`); None for
            all that the model's context holds.
        limit: how many findings of a kind are kept, 0 for all; all are counted.
        num_first: how many of the first rows are shown token by token, beside the odd ones; 0 shows none.
        num_workers: processes that decode pictures.

    Raises:
        InputError: a number is out of range.
    """

    source: Path
    model: str | Path = "tiny"
    format: str | None = None
    text_length: int | None = None
    limit: int = 100
    num_first: int = 3
    num_workers: int = 2

    def __post_init__(self) -> None:
        if self.text_length is not None and self.text_length < 1:
            raise InputError(f"the text length is {self.text_length}", hint="give at least 1 token")
        for name in ("limit", "num_first", "num_workers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}", hint="give 0 or more")


def run(config: DataCheckConfig, *, on_row: Callable[[int], None] | None = None) -> DataReport:
    """Examine every row and every picture of a data set.

    Args:
        config: what to examine for which model.
        on_row: called with the number of rows read so far.

    Raises:
        DataError: there is no data set, it has no rows at all, or a file of it cannot be read.
        InputError: no such model or format.
        CheckpointError: the model's files are damaged.
        MissingExtra: the format needs a library that is not installed.
        WorkError: a process that decodes pictures was killed.
    """
    doctor = Doctor(
        _processor(config.model),
        text_length=DataRules(text_length=config.text_length).max_text_tokens,
        limit=config.limit,
        num_first=config.num_first,
    )
    read = open_data(config.source, format=config.format, on_problem=doctor.add_problem)
    rows = chain.from_iterable(map(one_per_answer, read))
    report = doctor.examine(_with_text(rows, doctor), num_workers=config.num_workers, on_row=on_row)
    if not report.num_rows and not report.skipped:
        raise DataError(f"{config.source} has no rows", hint="give the folder that holds the annotations")
    return report


def _with_text(rows: Iterable[DataRow], doctor: Doctor) -> Iterator[DataRow]:
    """Objects as the text by which a model learns to detect them; text and rows without objects stay."""
    for row in rows:
        if row.suffix is not None or all(thing.is_crowd for thing in row.objects):
            yield row
            continue
        try:
            yield from to_text(row, None, doctor.add_problem)
        except UnusableRow as problem:
            doctor.add_problem(problem.problem(row.file, row.line))


def _processor(model: str | Path) -> Processor:
    path = TINY_FOLDER if str(model) == "tiny" else resolve(model)
    if path.is_dir():  # the weights need not be there
        return Processor.from_folder(path, read_config(path))
    checkpoint = open_checkpoint(path)
    return Processor.from_folder(checkpoint.folder, checkpoint.config)
