"""Boxes to location tokens and back.

A side of the image has 1024 steps, `<loc0000>` to `<loc1023>`; the order is y_min, x_min, y_max, x_max.
Coordinates are fractions of the whole image, whatever its shape (big_vision `pp/proj/paligemma`).
"""

import math
from collections.abc import Sequence
from typing import Literal

from paligemma2.errors import InputError
from paligemma2.model.config import NUM_LOCATION_TOKENS
from paligemma2.types import Box

Divisor = Literal[1023, 1024]


def location_index(value: float) -> int:
    """The location token 0..1023 nearest to a coordinate; values outside 0..1 are clipped.

    Raises:
        InputError: the coordinate is not a number.
    """
    if math.isnan(value):
        raise InputError("a box has a coordinate that is not a number", hint="give fractions from 0 to 1")
    # Clipped before rounding, so that infinity has a nearest token too.
    return round(min(max(value, 0.0), 1.0) * (NUM_LOCATION_TOKENS - 1))


def box_to_indices(box: Box) -> tuple[int, int, int, int]:
    """The four location tokens 0..1023 of a box: y_min, x_min, y_max, x_max."""
    return (
        location_index(box.y_min),
        location_index(box.x_min),
        location_index(box.y_max),
        location_index(box.x_max),
    )


def indices_to_box(indices: Sequence[int], *, divisor: Divisor = 1023) -> Box:
    """The box of four location tokens.

    Args:
        indices: y_min, x_min, y_max, x_max, each 0..1023.
        divisor: 1023 undoes `box_to_indices` (big_vision's evaluators); 1024 is what the Hugging Face demo
            divides by, at most 1/1024 of a side less.

    Raises:
        InputError: there are not four, or one is out of range.
    """
    if len(indices) != 4 or not all(0 <= index < NUM_LOCATION_TOKENS for index in indices):
        raise InputError(
            f"{list(indices)} is not a box", hint="give four location numbers from 0 to 1023: y, x, y, x"
        )
    y_min, x_min, y_max, x_max = (index / divisor for index in indices)
    return Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)


def box_to_text(box: Box) -> str:
    """A box as the model writes it: `<loc0000><loc0000><loc1023><loc1023>` is the whole image."""
    return "".join(f"<loc{index:04d}>" for index in box_to_indices(box))
