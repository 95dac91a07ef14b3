"""The examples of a task: what is asked about which pictures, and what is right."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Picture, Record, VideoPart
from paligemma2.errors import DataError
from paligemma2.evaluation.task import Task, parse_splits
from paligemma2.metrics.scores import Reference
from paligemma2.types import Clip, Example, ImageSource


@dataclass(frozen=True, kw_only=True)
class EvaluationExample:
    """An example and what its answer is compared with."""

    example: Example
    reference: Reference


@dataclass(frozen=True, kw_only=True)
class TaskExamples:
    """The examples of a split.

    Attributes:
        examples: those whose pictures are there.
        missing: names of the pictures that are not there, each once.
        num_rows: of the split, with and without pictures, before `limit`.
    """

    examples: tuple[EvaluationExample, ...]
    missing: tuple[str, ...]
    num_rows: int


def read_examples(
    task: Task, split: str, folder: DataFolder, *, limit: int | None = None, seed: int = 0
) -> TaskExamples:
    """Read a split of a task, or several: "val[-10240:]", "train + val".

    Args:
        task: the task.
        split: as in `Row.splits` or `Task.train`.
        folder: the data set.
        limit: only so many rows, drawn with `seed`; in the order of the files all the same.
        seed: of that choice.

    Raises:
        DataError: files are missing or do not hold what they should; or no picture at all is there.
    """
    records = list(records_of(task, split, folder))
    num_rows = len(records)
    if limit is not None and limit < num_rows:
        kept = sorted(random.Random(seed).sample(range(num_rows), limit))
        records = [records[i] for i in kept]
    examples, missing = [], dict[str, None]()
    for record in records:
        pictures = [_found(task, picture, folder) for picture in record.pictures]
        if all(picture is not None for picture in pictures):
            found = tuple(picture for picture in pictures if picture is not None)
            examples.append(example_of(task, record, found))
        else:
            missing |= {
                _name(name): None
                for name, picture in zip(record.pictures, pictures, strict=True)
                if picture is None
            }
    if not examples:
        first = next(iter(missing), "no rows at all")
        raise DataError(
            f"{folder.root}: none of the pictures of {split!r} is there (the first: {first})",
            hint="put the pictures, or their archives, into the folder of the data set",
        )
    return TaskExamples(examples=tuple(examples), missing=tuple(missing), num_rows=num_rows)


def prompt_of(task: Task, record: Record) -> str:
    """The prompt of a row.

    Raises:
        DataError: the row lacks a field of the prompt.
    """
    try:
        return task.prefix.format_map(record.fields)
    except LookupError as error:
        raise DataError(
            f"{task.title}: row {record.id} has no field {error}", hint="is this the data set's own file?"
        ) from error


def example_of(task: Task, record: Record, images: tuple[ImageSource | Clip, ...]) -> EvaluationExample:
    """The example of a row whose pictures are found.

    Raises:
        DataError: the row lacks a field of the prompt.
    """
    suffixes = task.suffix(record.fields)
    answers = suffixes if task.references is None else task.references(record.fields)
    meta = {name: record.fields[name] for name in task.meta}
    return EvaluationExample(
        example=Example(
            images=images,
            prefix=prompt_of(task, record),
            suffix=suffixes[0],
            answers=suffixes if len(suffixes) > 1 else (),
            id=record.id,
        ),
        reference=Reference(answers=answers, unit=record.unit, meta=meta),
    )


def records_of(task: Task, split: str, folder: DataFolder) -> Iterator[Record]:
    """The rows of a split of a task, or of several, as the readers give them.

    Raises:
        DataError: files are missing or do not hold what they should.
    """
    for part in parse_splits(split):
        records = list(task.splits[part.name].read(folder))
        first, last = part.bounds(len(records))
        yield from records[first:last]


def _found(task: Task, picture: Picture, folder: DataFolder) -> ImageSource | Clip | None:
    if isinstance(picture, str):
        return folder.image(picture)
    if not isinstance(picture, VideoPart):
        return picture
    path = folder.video(picture.name)
    if path is None or task.frames is None:
        return None
    frames = task.frames
    return Clip(path, num_frames=frames.count, stride=frames.stride, start=picture.start, end=picture.end)


def _name(picture: Picture) -> str:
    return picture.name if isinstance(picture, VideoPart) else str(picture)
