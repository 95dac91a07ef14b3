"""Every format that data sets are read from and written to, and how the format of a folder is found."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from paligemma2.data.formats import (
    coco,
    coco_writer,
    csv_rows,
    imagefolder,
    llava,
    parquet,
    roboflow_jsonl,
    tar_shards,
    voc,
    yolo,
)
from paligemma2.data.rows import DataRow, OnProblem, canonical_split
from paligemma2.errors import DataError, InputError


class RowWriter(Protocol):
    """Writes rows into a new folder, one after the other."""

    def write(self, row: DataRow) -> None:
        """Add a row.

        Raises:
            UnusableRow: the format cannot hold it; nothing of it is written.
        """

    def close(self) -> None:
        """Write what can be known at the end only."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one format is recognised, read and written.

    Attributes:
        looks_for: the files that it is recognised by, in words.
        holds: "objects" where rows are boxes and outlines, "text" where they are prefix and suffix.
        is_here: whether a folder (or file) looks like this format.
        read: rows of a folder (or file) in the order of its files, in bounded memory.
        writer: of rows into a folder.
        index: the same rows with the places of pictures instead of the pictures, where those stand inside of
            larger files that can be read anywhere.
        holds_answers: whether a row that is written keeps several answers.
    """

    looks_for: str
    holds: Literal["text", "objects"]
    is_here: Callable[[Path], bool]
    read: Callable[[Path, OnProblem], Iterator[DataRow]]
    writer: Callable[[Path, OnProblem], RowWriter]
    index: Callable[[Path, OnProblem], Iterator[DataRow]] | None = None
    holds_answers: bool = False


# In the order of detection: what is recognised by a name that nobody else uses comes first.
FORMATS: Mapping[str, Format] = {
    "jsonl": Format(
        looks_for="_annotations.train.jsonl, train.jsonl or train/annotations.jsonl",
        holds="text",
        is_here=roboflow_jsonl.is_here,
        read=roboflow_jsonl.read,
        writer=roboflow_jsonl.Writer,
        holds_answers=True,
    ),
    "imagefolder": Format(
        looks_for="metadata.jsonl or metadata.csv",
        holds="text",
        is_here=imagefolder.is_here,
        read=imagefolder.read,
        writer=imagefolder.Writer,
        holds_answers=True,
    ),
    "yolo": Format(
        looks_for="data.yaml",
        holds="objects",
        is_here=yolo.is_here,
        read=yolo.read,
        writer=yolo.Writer,
    ),
    "coco": Format(
        looks_for="a .json with images and annotations",
        holds="objects",
        is_here=coco.is_here,
        read=coco.read,
        writer=coco_writer.Writer,
    ),
    "voc": Format(
        looks_for="Annotations/*.xml or .xml files beside pictures",
        holds="objects",
        is_here=voc.is_here,
        read=voc.read,
        writer=voc.Writer,
    ),
    "llava": Format(
        looks_for="a .json list with conversations",
        holds="text",
        is_here=llava.is_here,
        read=llava.read,
        writer=llava.Writer,
    ),
    "parquet": Format(
        looks_for="*.parquet",
        holds="text",
        is_here=parquet.is_here,
        read=parquet.read,
        writer=parquet.Writer,
    ),
    "tar": Format(
        looks_for="*.tar",
        holds="text",
        is_here=tar_shards.is_here,
        read=tar_shards.read,
        writer=tar_shards.Writer,
        index=tar_shards.index,
        holds_answers=True,
    ),
    "csv": Format(
        looks_for="*.csv",
        holds="text",
        is_here=csv_rows.is_here,
        read=csv_rows.read,
        writer=csv_rows.Writer,
    ),
}


def find_format(source: Path) -> str:
    """The name of the format of a folder or file.

    Raises:
        DataError: there is nothing, or nothing that any format is recognised by.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist", hint="give the folder or the file of a data set")
    for name, form in FORMATS.items():
        if form.is_here(source):
            return name
    looked_for = "; ".join(f"{name}: {form.looks_for}" for name, form in FORMATS.items())
    raise DataError(f"{source} is in no format known here", hint=f"looked for {looked_for}")


def format_named(name: str) -> Format:
    """The format with this name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(f"{name!r} is not a format of data", hint=f"use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def open_data(
    source: Path,
    *,
    format: str | None = None,
    split: str | None = None,
    by_place: bool = False,
    on_problem: OnProblem,
) -> Iterator[DataRow]:
    """The rows of a data set, one after the other.

    Rows come as the format has them: COCO, YOLO and VOC give `objects`, the others `prefix` and `suffix`.

    Args:
        source: folder of a data set, or one file of it.
        format: a name of `FORMATS`; None finds it out.
        split: only rows of this split; "val" and "validation" mean "valid".
        by_place: pictures inside of larger files come as `types.FilePart` where the format can.
        on_problem: told of each row that is skipped or corrected.

    Raises:
        DataError: there is no data set, or a file of it cannot be read at all.
        InputError: there is no such format.
        MissingExtra: the format needs a library that is not installed.
    """
    form = format_named(format or find_format(source))
    if not form.is_here(source):
        raise DataError(f"{source} is not in the format {format!r}", hint=f"it needs {form.looks_for}")
    read = form.index if by_place and form.index is not None else form.read
    rows = read(source, on_problem)
    wanted = None if split is None else canonical_split(split)
    return (row for row in rows if wanted is None or row.split == wanted)
