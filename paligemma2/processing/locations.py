"""Boxes to location tokens and back.

A side of the image has 1024 steps, `<loc0000>` to `<loc1023>`; the order is y_min, x_min, y_max, x_max.
Coordinates are fractions of the whole image, whatever its shape (big_vision `pp/proj/paligemma`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paligemma2.errors import InputError
from paligemma2.model.config import NUM_LOCATION_TOKENS
from paligemma2.types import Box

Divisor = Literal[1023, 1024]


def location_index(value: float, *, divisor: Divisor = 1023) -> int:
    """The location token 0..1023 nearest to a coordinate; values outside 0..1 are clipped.

    Args:
        value: fraction of the side.
        divisor: what the reader divides by; see `indices_to_box`.

    Raises:
        InputError: the coordinate is not a number.
    """
    if math.isnan(value):
        raise InputError("a box has a coordinate that is not a number", hint="give fractions from 0 to 1")
    # Clipped before rounding, so that infinity has a nearest token too.
    return min(round(_clip(value) * divisor), NUM_LOCATION_TOKENS - 1)


def box_to_indices(box: Box, *, divisor: Divisor = 1023) -> tuple[int, int, int, int]:
    """The four location tokens 0..1023 of a box: y_min, x_min, y_max, x_max."""
    return (
        location_index(box.y_min, divisor=divisor),
        location_index(box.x_min, divisor=divisor),
        location_index(box.y_max, divisor=divisor),
        location_index(box.x_max, divisor=divisor),
    )


def indices_to_box(indices: Sequence[int], *, divisor: Divisor = 1023) -> Box:
    """The box of four location tokens.

    Args:
        indices: y_min, x_min, y_max, x_max, each 0..1023.
        divisor: 1023 undoes `box_to_indices` (big_vision's evaluators); 1024 is what the Hugging Face demo
            and supervision divide by, at most 1/1024 of a side less.

    Raises:
        InputError: there are not four, or one is out of range.
    """
    if len(indices) != 4 or not all(0 <= index < NUM_LOCATION_TOKENS for index in indices):
        raise InputError(
            f"{list(indices)} is not a box", hint="give four location numbers from 0 to 1023: y, x, y, x"
        )
    y_min, x_min, y_max, x_max = (index / divisor for index in indices)
    return Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)


def box_to_text(box: Box, *, divisor: Divisor = 1023) -> str:
    """A box as the model writes it: `<loc0000><loc0000><loc1023><loc1023>` is the whole image."""
    return "".join(f"<loc{index:04d}>" for index in box_to_indices(box, divisor=divisor))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a picture lies in the square that the model sees, and the way of boxes from one to the other.

    `frame` is the picture's own rectangle, in fractions of the square.
    """

    frame: Box

    def to_square(self, box: Box) -> Box:
        """A box in fractions of the picture, in fractions of the square."""
        height, width = self._sides()
        return Box(
            y_min=self.frame.y_min + box.y_min * height,
            x_min=self.frame.x_min + box.x_min * width,
            y_max=self.frame.y_min + box.y_max * height,
            x_max=self.frame.x_min + box.x_max * width,
        )

    def to_picture(self, box: Box) -> Box:
        """A box in fractions of the square, in fractions of the picture; cut off where the picture ends."""
        height, width = self._sides()
        return Box(
            y_min=_clip((box.y_min - self.frame.y_min) / height),
            x_min=_clip((box.x_min - self.frame.x_min) / width),
            y_max=_clip((box.y_max - self.frame.y_min) / height),
            x_max=_clip((box.x_max - self.frame.x_min) / width),
        )

    def _sides(self) -> tuple[float, float]:
        return self.frame.y_max - self.frame.y_min, self.frame.x_max - self.frame.x_min


# How the model's own pictures are made: stretched to the whole square, so that fractions stay what they are.
SQUASHED = Placement(frame=Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0))


def padded(height: int, width: int, *, at: Literal["center", "top_left"] = "center") -> Placement:
    """The place of a picture that keeps its shape: its longer side fills the square, the rest is padding.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        at: where in the square the picture lies.

    Raises:
        InputError: the picture has no pixels.
    """
    if height < 1 or width < 1:
        raise InputError(
            f"a picture of {height} × {width} pixels has no place", hint="give its size in pixels"
        )
    longer = max(height, width)
    y_side, x_side = height / longer, width / longer
    y_min, x_min = ((1 - y_side) / 2, (1 - x_side) / 2) if at == "center" else (0.0, 0.0)
    return Placement(frame=Box(y_min=y_min, x_min=x_min, y_max=y_min + y_side, x_max=x_min + x_side))


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
