"""Boxes of annotations: numbers in pixels to fractions, and what is done about those that make no sense."""

import math
from collections.abc import Sequence
from typing import Any

from paligemma2.data.rows import DataRow, OnProblem, RowProblem, UnusableRow
from paligemma2.types import Box

_ROUNDING = 2e-6  # of formats that write six decimals


def numbers(values: Any, count: int) -> list[float]:
    """`count` finite numbers.

    Raises:
        UnusableRow: there are not so many, or one is no number.
    """
    if not isinstance(values, Sequence) or len(values) != count:
        raise UnusableRow("a box is not made of numbers", f"{values!r} should be {count} numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise UnusableRow("a box is not made of numbers", f"it is {list(values)!r}")
    return [float(value) for value in values]


def box_from_pixels(values: Any, height: int, width: int) -> Box:
    """The box of [x, y, width, height] in pixels, not clipped.

    Raises:
        UnusableRow: they are not four numbers.
    """
    x, y, box_width, box_height = numbers(values, 4)
    return Box(
        y_min=y / height, x_min=x / width, y_max=(y + box_height) / height, x_max=(x + box_width) / width
    )


def checked_box(box: Box, label: str, row: DataRow, on_problem: OnProblem) -> Box | None:
    """The part of the box inside the picture; None if that has no area. Both are reported."""
    name = f"{label!r} at y {box.y_min:.4g} to {box.y_max:.4g}, x {box.x_min:.4g} to {box.x_max:.4g}"
    if box.y_max < box.y_min or box.x_max < box.x_min:
        note(row, on_problem, "a box has its corners the wrong way round and is left out", name)
        return None
    clipped = Box(
        y_min=_clip(box.y_min), x_min=_clip(box.x_min), y_max=_clip(box.y_max), x_max=_clip(box.x_max)
    )
    if clipped.y_max <= clipped.y_min or clipped.x_max <= clipped.x_min:
        note(row, on_problem, "a box has no area in the picture and is left out", name)
        return None
    if min(box.y_min, box.x_min) < -_ROUNDING or max(box.y_max, box.x_max) > 1 + _ROUNDING:
        note(row, on_problem, "a box reaches out of the picture and is clipped", name)
    return clipped


def note(row: DataRow, on_problem: OnProblem, reason: str, detail: str) -> None:
    """Report something about a row that is kept."""
    on_problem(RowProblem(file=row.file, line=row.line, reason=reason, detail=detail, is_skipped=False))


def check_has_no_text(row: DataRow) -> None:
    """Nothing for a row of objects, also for one without any: its picture shows none of the things.

    Raises:
        UnusableRow: the row is a text, which a format of boxes cannot hold.
    """
    if row.suffix is not None and not row.objects:
        raise UnusableRow("the row has no objects")


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
