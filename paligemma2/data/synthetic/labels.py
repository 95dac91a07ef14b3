"""What every patch of a picture shows: the targets of the vision pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paligemma2.data.synthetic.lettering import Lettering, draw_letter_numbers, letter_box
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.render import draw_object_numbers
from paligemma2.data.synthetic.scenes import Scene
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.errors import InputError
from paligemma2.types import Box

MIN_COVER = 0.10
"""A patch shows an object if at least this part of the patch belongs to it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchLabels:
    """The object or letter that covers the largest part of each patch, in rows from the top left.

    Attributes:
        shape: int64 [grid, grid]; 0 for none, i + 1 for `SHAPES[i]`.
        color: int64 [grid, grid]; 0 for none, i + 1 for `COLORS[i]`.
        box: float32 [grid, grid, 4]; (y_min, x_min, y_max, x_max) in 0..1 of the whole object or letter;
            zeros where `shape` and `letter` are both 0.
        letter: int64 [grid, grid]; 0 for none, 1 for A to 26 for Z.
        order: int64 [grid, grid]; 0 for none, 1 for the first letter of the word or the leftmost object.
    """

    shape: npt.NDArray[np.int64]
    color: npt.NDArray[np.int64]
    box: npt.NDArray[np.float32]
    letter: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]


def patch_numbers(numbers: npt.NDArray[np.uint8], patch_size: int) -> npt.NDArray[np.int64]:
    """The number that fills most of each patch, int64 [grid, grid]; 0 where none fills `MIN_COVER`.

    Args:
        numbers: uint8 [size, size], 0 for background.
        patch_size: side of a patch; divides `size`.

    Raises:
        InputError: `patch_size` does not divide the picture.
    """
    size = numbers.shape[0]
    if patch_size < 1 or size % patch_size:
        raise InputError(
            f"patches of {patch_size} px do not fill a picture of {size} px",
            hint="choose a size that is a multiple of the patch size",
        )
    grid = size // patch_size
    patches = numbers.reshape(grid, patch_size, grid, patch_size)
    highest = int(numbers.max())
    areas = np.stack(
        [(patches == number).sum(axis=(1, 3)) for number in range(1, highest + 1)]
        or [patches[:, 0, :, 0] * 0]
    )
    found = areas.max(axis=0) >= MIN_COVER * patch_size**2
    return np.where(found, areas.argmax(axis=0) + 1, 0).astype(np.int64)


def _looked_up(values: Sequence[int], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.array([0, *values], dtype=np.int64)[numbers]


def _boxes(boxes: Sequence[Box], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    rows = [(box.y_min, box.x_min, box.y_max, box.x_max) for box in boxes]
    table = np.array([(0.0, 0.0, 0.0, 0.0), *rows], dtype=np.float32)
    return table[numbers]


def scene_labels(scene: Scene, size: int, patch_size: int) -> PatchLabels:
    """The labels of a scene; no letters."""
    numbers = patch_numbers(draw_object_numbers(scene, size), patch_size)
    nothing = np.zeros_like(numbers)
    return PatchLabels(
        shape=_looked_up([SHAPES.index(item.shape) + 1 for item in scene.objects], numbers),
        color=_looked_up([COLORS.index(item.color) + 1 for item in scene.objects], numbers),
        box=_boxes([item.box for item in scene.objects], numbers),
        letter=nothing,
        order=_looked_up([scene.left_to_right.index(item) + 1 for item in scene.objects], numbers),
    )


def word_labels(lettering: Lettering, size: int, patch_size: int) -> PatchLabels:
    """The labels of a written word; no shapes or colours."""
    numbers = patch_numbers(draw_letter_numbers(lettering, size), patch_size)
    nothing = np.zeros_like(numbers)
    return PatchLabels(
        shape=nothing,
        color=nothing.copy(),
        box=_boxes([letter_box(lettering, place) for place in range(len(lettering.word))], numbers),
        letter=_looked_up([ord(letter) - ord("A") + 1 for letter in lettering.word], numbers),
        order=numbers,
    )
