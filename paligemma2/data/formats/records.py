"""Rows that are written as named fields: what JSONL, CSV, imagefolder, parquet and tar have in common.

The picture stands under `image`, `file_name` or `images`; the question under `prefix`, `prompt` or
`question`; the answer under `suffix`, `answer`, `answers` or `target`, or as a caption under `text`,
`caption` or `captions`. Of a list of answers each is right.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paligemma2.data.formats.boxes import box_from_pixels, checked_box
from paligemma2.data.pictures import picture_size
from paligemma2.data.rows import (
    Annotation,
    DataRow,
    OnProblem,
    UnusableRow,
    canonical_split,
    split_of_file,
)
from paligemma2.processing.prompts import caption
from paligemma2.types import ImageSource

_IMAGES = ("image", "file_name", "images")
_PREFIXES = ("prefix", "prompt", "question")
_SUFFIXES = ("suffix", "answer", "answers", "target")
_CAPTIONS = ("text", "caption", "captions")
_IDS = ("id", "image_id", "question_id")


def rows_of_files(
    files: Iterable[Path],
    root: Path,
    records: Callable[[Path, OnProblem], Iterator[tuple[int, dict[str, Any]]]],
    on_problem: OnProblem,
) -> Iterator[DataRow]:
    """The rows of files of records, whose pictures are named relative to the file.

    Args:
        files: in which order.
        root: of the data set; folders below it can name the split.
        records: of one file, with their lines.
        on_problem: told of records that are skipped and boxes that are corrected.
    """
    for path in files:
        split = split_of_file(path, root)
        for line, record in records(path, on_problem):
            try:
                yield row_of_record(
                    record, file=path, line=line, split=split, folder=path.parent, on_problem=on_problem
                )
            except UnusableRow as problem:
                on_problem(problem.problem(path, line))


def row_of_record(
    record: Mapping[str, Any],
    *,
    file: Path,
    line: int | None,
    split: str,
    folder: Path,
    on_problem: OnProblem,
    images: tuple[ImageSource, ...] | None = None,
) -> DataRow:
    """The row that named fields describe.

    Args:
        record: the fields.
        file: where it is written.
        line: in that file.
        split: where the record has no field `split`.
        folder: that picture names are relative to.
        on_problem: told of boxes that are corrected.
        images: pictures that came otherwise; None takes the names in the record.

    Raises:
        UnusableRow: a field is missing, or is not what it should be.
    """
    images = _image_paths(record, folder) if images is None else images
    prefix, answers = _texts(record)
    objects = record.get("objects")
    if answers is None and not objects:
        raise UnusableRow("the suffix is missing", f"there is {', '.join(record) or 'nothing'}")
    if answers is not None and not (answers and all(answer.strip() for answer in answers)):
        raise UnusableRow("the suffix is empty")
    return DataRow(
        images=images,
        prefix=prefix,
        suffix=answers[0] if answers else None,
        answers=answers if answers and len(answers) > 1 else (),
        objects=_objects(objects, DataRow(images=images, file=file, line=line), on_problem),
        split=_stated_split(record) or split,
        id=str(_first(record, _IDS) or f"{file.stem}:{line}"),
        file=file,
        line=line,
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _image_paths(record: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    stated = _first(record, _IMAGES)
    names = [stated] if isinstance(stated, str) else stated
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UnusableRow("no picture is named", f"image is {stated!r}")
    return tuple(folder / name for name in names)


def _texts(record: Mapping[str, Any]) -> tuple[str, tuple[str, ...] | None]:
    prefix, suffix = _first(record, _PREFIXES), _first(record, _SUFFIXES)
    if suffix is None and prefix is None:
        suffix = _first(record, _CAPTIONS)
        prefix = None if suffix is None else caption()
    prefix = "" if prefix is None else prefix
    if not isinstance(prefix, str):
        raise UnusableRow("the prefix is not text", f"it is {prefix!r}")
    if suffix is None:
        return prefix, None
    answers = tuple(suffix) if isinstance(suffix, list) else (suffix,)
    if not all(isinstance(answer, str) for answer in answers):
        raise UnusableRow("the suffix is not text", f"it is {suffix!r}")
    return prefix, answers


def _stated_split(record: Mapping[str, Any]) -> str | None:
    stated = record.get("split")
    if stated in (None, ""):
        return None
    if not isinstance(stated, str) or not re.fullmatch(r"[\w-]+", stated):  # it becomes the name of a file
        raise UnusableRow("the split is not a word", f"it is {stated!r}")
    return canonical_split(stated)


def _objects(objects: Any, where: DataRow, on_problem: OnProblem) -> tuple[Annotation, ...]:
    """Hugging Face's column: `bbox` [x, y, width, height] in pixels and as many `categories`."""
    if not objects:
        return ()
    if not isinstance(objects, Mapping):
        raise UnusableRow("objects is not a JSON object", f"it is a {type(objects).__name__}")
    boxes, labels = objects.get("bbox"), _first(objects, ("categories", "category", "label"))
    if not isinstance(boxes, list) or not isinstance(labels, list) or len(boxes) != len(labels):
        raise UnusableRow("objects has no bbox and categories of the same length")
    height, width = picture_size(where.images[0])
    found = []
    for values, label in zip(boxes, labels, strict=True):
        box = checked_box(box_from_pixels(values, height, width), str(label), where, on_problem)
        if box is not None:
            found.append(Annotation(label=str(label), box=box))
    return tuple(found)


def objects_column(row: DataRow, height: int, width: int) -> dict[str, list[Any]]:
    """The objects of a row as Hugging Face's column, in pixels."""
    boxes = []
    for thing in row.objects:
        y_min, x_min, y_max, x_max = thing.box.pixels(height, width)
        boxes.append([round(value, 3) for value in (x_min, y_min, x_max - x_min, y_max - y_min)])
    return {"bbox": boxes, "categories": [thing.label for thing in row.objects]}


def suffix_of(row: DataRow) -> str:
    """The answer of a row.

    Raises:
        UnusableRow: it has none.
    """
    if row.suffix is None:
        raise UnusableRow("the row has no text", "choose --task detect or --task segment")
    return row.suffix


def answers_of(row: DataRow) -> str | list[str]:
    """The answer of a row, or the list of its answers, for formats that have lists.

    Raises:
        UnusableRow: it has none.
    """
    return list(row.answers) or suffix_of(row)
