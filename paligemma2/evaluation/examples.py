"""The examples of a task: what is asked about which pictures, and what is right."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Picture, Record, VideoPart
from paligemma2.data.row_tasks import MaskCoding
from paligemma2.errors import DataError
from paligemma2.evaluation.mask_codes import with_mask_codes
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Task, parse_splits
from paligemma2.metrics.scores import Reference
from paligemma2.types import Clip, EditedPicture, Example, ImageSource, Variant


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
    task: Task,
    split: str,
    folder: DataFolder,
    *,
    limit: int | None = None,
    seed: int = 0,
    coding: MaskCoding | None = None,
) -> TaskExamples:
    """Read a split of a task, or several: "val[-10240:]", "train + val".

    Args:
        task: the task.
        split: as in `Row.splits` or `Task.train`.
        folder: the data set.
        limit: only so many rows, drawn with `seed`; in the order of the files all the same.
        seed: of that choice.
        coding: of masks; only training on objects needs it.

    Raises:
        DataError: files are missing or do not hold what they should; or no picture at all is there.
        InputError: `coding` is needed.
    """
    records = list(records_of(task, split, folder))
    num_rows = len(records)
    if limit is not None and limit < num_rows:
        kept = sorted(random.Random(seed).sample(range(num_rows), limit))
        records = [records[i] for i in kept]
    if isinstance(task.suffix, ObjectTokens):
        records = with_mask_codes(records, task.suffix, coding)
    examples, missing = [], dict[str, None]()
    for record in records:
        pictures = [_found(task, picture, folder) for picture in record.pictures]
        if all(picture is not None for picture in pictures):
            found = tuple(picture for picture in pictures if picture is not None)
            examples.append(example_of(task, record, found, has_answers=split != task.test_split))
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
            hint=folder.notice or "put the pictures, or their archives, into the folder of the data set",
        )
    return TaskExamples(examples=tuple(examples), missing=tuple(missing), num_rows=num_rows)


def prompt_of(task: Task, record: Record) -> str:
    """The prompt of a row.

    Raises:
        DataError: the row lacks a field of the prompt.
    """
    return _prompt(task, record, record.fields)


def _prompt(task: Task, record: Record, fields: Mapping[str, Any]) -> str:
    try:
        return task.prefix.format_map(fields)
    except LookupError as error:
        raise DataError(
            f"{task.title}: row {record.id} has no field {error}", hint="is this the data set's own file?"
        ) from error


def example_of(
    task: Task, record: Record, images: tuple[ImageSource | Clip, ...], *, has_answers: bool = True
) -> EvaluationExample:
    """The example of a row whose pictures are found.

    Raises:
        DataError: the row lacks a field of the prompt, or its right answer.
    """
    try:
        suffixes = task.suffix(record.fields) if has_answers else ()
        answers = suffixes if task.references is None or not has_answers else task.references(record.fields)
        meta = {name: record.fields[name] for name in task.meta if name in record.fields}
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{task.title}: row {record.id} has no right answer, or not where it should be ({error!r})",
            hint="is this the data set's own file, of a split with answers?",
        ) from error
    return EvaluationExample(
        example=Example(
            images=images,
            prefix=prompt_of(task, record),
            suffix=suffixes[0] if suffixes else None,
            answers=suffixes if len(suffixes) > 1 else (),
            variants=tuple(_variant(task, record, ways) for ways in record.variants),
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
    if isinstance(picture, EditedPicture) and isinstance(picture.source, str):
        source = folder.image(picture.source)
        return None if source is None else replace(picture, source=source)
    if not isinstance(picture, VideoPart):
        return picture
    path = folder.video(picture.name)
    if path is None or task.frames is None:
        return None
    frames = task.frames
    return Clip(path, num_frames=frames.count, stride=frames.stride, start=picture.start, end=picture.end)


def _name(picture: Picture) -> str:
    if isinstance(picture, EditedPicture):
        return str(picture.source)
    return picture.name if isinstance(picture, VideoPart) else str(picture)


def _variant(task: Task, record: Record, ways: Sequence[Mapping[str, Any]]) -> Variant:
    prefixes = tuple(_prompt(task, record, fields) for fields in ways)
    return Variant(prefixes=prefixes, answers=task.suffix(ways[0]))
