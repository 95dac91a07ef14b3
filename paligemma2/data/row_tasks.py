"""Rows of objects to rows of text that PaliGemma learns from, and back.

`detect` makes one row per picture: `detect cat ; dog`, answered by all boxes. `segment` makes one row per
label of a picture: `segment cat`, answered by box and mask of every cat.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paligemma2.data.formats.boxes import note
from paligemma2.data.formats.outlines import mask_of
from paligemma2.data.pictures import row_size
from paligemma2.data.rows import CAPTION_WORDS, Annotation, DataRow, OnProblem, UnusableRow
from paligemma2.errors import InputError
from paligemma2.processing.masks import crop_mask, mask_to_rle, paste_mask
from paligemma2.processing.objects import objects_to_suffix
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.prompts import detect, segment

Task: TypeAlias = Literal["detect", "segment", "caption"]
TASKS: tuple[Task, ...] = ("detect", "segment", "caption")
Codes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """The mask codec as two functions, so that no tensor is needed here.

    Attributes:
        encode: float32 [masks, 64, 64] in 0..1 to the 16 codes of each.
        decode: the codes of each mask to float [masks, 64, 64], about -1 to 1.
    """

    encode: Callable[[NDArray[np.float32]], list[Codes]]
    decode: Callable[[Sequence[Codes]], NDArray[np.floating[Any]]]


def to_text(
    row: DataRow,
    task: Task | None,
    on_problem: OnProblem,
    coding: MaskCoding | None = None,
    labels: Sequence[str] = (),
) -> Iterator[DataRow]:
    """The rows with prefix and suffix that a row gives.

    Args:
        row: as it was read.
        task: what to make; None leaves text as it is and makes `detect` of objects.
        on_problem: told of objects that are left out.
        coding: of masks, for "segment".
        labels: that every `detect` asks for, in this order; without, it asks for what is in the picture.

    Raises:
        UnusableRow: the row gives none.
        InputError: "segment" without `coding`.
    """
    if task == "caption":
        yield _caption(row)
    elif row.suffix is not None and (task is None or _first_word(row.prefix) == task):
        yield row
    else:
        objects = tuple(thing for thing in _objects(row, on_problem) if _is_one_thing(thing, row, on_problem))
        if not objects:
            raise UnusableRow("the row has no objects")
        if task == "segment":
            yield from _segment_rows(row, objects, on_problem, _needed(coding))
        else:
            yield _asked(row, objects, "detect", row.id, labels)


def to_objects(
    row: DataRow, task: Task | None, on_problem: OnProblem, coding: MaskCoding | None = None
) -> DataRow:
    """The row with objects instead of an answer that names them; other text stays.

    Args:
        row: as it was read.
        task: "detect" keeps boxes only, "segment" only what has an outline, "caption" only captions; None
            keeps all.
        on_problem: told of objects that are left out.
        coding: of masks; where there is none, the mask tokens of an answer are left out.

    Raises:
        UnusableRow: it holds nothing for this task.
        InputError: "segment" without `coding`, where masks are tokens.
    """
    if task == "caption":
        return _caption(row)
    objects = _objects(row, on_problem)
    if not objects and row.suffix is not None and task is not None:
        raise UnusableRow("the row has no objects")
    if task == "detect":
        objects = tuple(replace(thing, polygons=(), rle=None, codes=()) for thing in objects)
    elif any(thing.codes for thing in objects):
        objects = _decoded(row, objects, on_problem, _needed(coding) if task == "segment" else coding)
    if task == "segment":
        objects = tuple(thing for thing in objects if _has_outline(thing, row, on_problem))
    return replace(row, objects=objects, prefix="", suffix=None, answers=()) if objects else row


def _caption(row: DataRow) -> DataRow:
    if row.suffix is None or _first_word(row.prefix) not in CAPTION_WORDS:
        raise UnusableRow("the row is no caption")
    return row


def _first_word(prefix: str) -> str:
    return prefix.strip().split(" ")[0]


def _needed(coding: MaskCoding | None) -> MaskCoding:
    if coding is None:
        raise InputError("masks need the mask codec", hint="give the one that the model was trained with")
    return coding


def _objects(row: DataRow, on_problem: OnProblem) -> tuple[Annotation, ...]:
    """The objects of a row, from its answer where the format has none."""
    if row.objects or row.suffix is None:
        return row.objects
    parsed = parse_answer(row.suffix)
    for problem in parsed.problems:
        note(row, on_problem, "a part of the answer is malformed", f"{problem.start}: {problem.reason}")
    return tuple(
        Annotation(label=thing.label, box=thing.box, codes=thing.codes)
        for thing in parsed.detections
        if thing.label
    )


def _is_one_thing(thing: Annotation, row: DataRow, on_problem: OnProblem) -> bool:
    if thing.is_crowd:
        note(row, on_problem, "a crowd region is left out", repr(thing.label))
    return not thing.is_crowd


def _has_outline(thing: Annotation, row: DataRow, on_problem: OnProblem) -> bool:
    has_outline = bool(thing.polygons) or thing.rle is not None
    if not has_outline:
        note(row, on_problem, "an object without outline is left out", repr(thing.label))
    return has_outline


def _asked(
    row: DataRow, objects: Sequence[Annotation], task: Task, row_id: str, labels: Sequence[str] = ()
) -> DataRow:
    ask = detect if task == "detect" else segment
    if task == "detect":
        objects = [replace(thing, codes=()) for thing in objects]
    try:
        prefix = ask(*dict.fromkeys((*labels, *(thing.label.strip() for thing in objects))))
        suffix = objects_to_suffix(objects)
    except InputError as error:
        raise UnusableRow("a label cannot be written", error.message) from None
    return replace(row, prefix=prefix, suffix=suffix, answers=(), id=row_id)


def _segment_rows(
    row: DataRow, objects: tuple[Annotation, ...], on_problem: OnProblem, coding: MaskCoding
) -> Iterator[DataRow]:
    objects = _encoded(row, objects, on_problem, coding)
    if not objects:
        raise UnusableRow("the row has no outlines")
    by_label: dict[str, list[Annotation]] = {}
    for thing in objects:
        by_label.setdefault(thing.label.strip(), []).append(thing)
    for label, things in by_label.items():
        yield _asked(row, things, "segment", row.id if len(by_label) == 1 else f"{row.id}:{label}")


def _encoded(
    row: DataRow, objects: tuple[Annotation, ...], on_problem: OnProblem, coding: MaskCoding
) -> tuple[Annotation, ...]:
    ready = [thing for thing in objects if thing.codes]
    outlined = [thing for thing in objects if not thing.codes and _has_outline(thing, row, on_problem)]
    if not outlined:
        return tuple(ready)
    height, width = row_size(row)
    masks = [mask_of(thing, height, width) for thing in outlined]
    windows = [
        crop_mask(mask, thing.box) for mask, thing in zip(masks, outlined, strict=True) if mask is not None
    ]
    codes = coding.encode(np.stack(windows))
    return (*ready, *(replace(thing, codes=one) for thing, one in zip(outlined, codes, strict=True)))


def _decoded(
    row: DataRow, objects: tuple[Annotation, ...], on_problem: OnProblem, coding: MaskCoding | None
) -> tuple[Annotation, ...]:
    if coding is None:
        note(row, on_problem, "mask tokens are left out", "--task segment keeps them as outlines")
        return tuple(replace(thing, codes=()) for thing in objects)
    height, width = row_size(row)
    coded = [thing for thing in objects if thing.codes]
    windows = iter(coding.decode([thing.codes for thing in coded]))
    return tuple(
        replace(thing, codes=(), rle=mask_to_rle(paste_mask(next(windows), thing.box, height, width)))
        if thing.codes
        else thing
        for thing in objects
    )
