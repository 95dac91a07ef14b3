"""Pictures that benchmarks change before the model sees them: turned, painted over, outlined."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from paligemma2.types import Box, EditedPicture, Label

_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_LARGEST = 100
_RED = (1.0, -1.0, -1.0)


def edit(image: Image.Image, changes: EditedPicture) -> Image.Image:
    """A picture turned and painted over; the outline comes after the resize, see `draw_outline`.

    Args:
        image: RGB.
        changes: what is done; its source is not looked at.
    """
    turn = _TURNS[changes.quarter_turns % 4]
    image = image.copy() if turn is None else image.transpose(turn)
    for label in changes.labels:
        _paint(ImageDraw.Draw(image), label)
    return image


def draw_outline(pixels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """A copy with a red line of one pixel around a box, as TensorFlow's `draw_bounding_boxes` has it.

    Corners are multiplied by the side less one and cut to whole pixels; what is outside is not drawn, nor is
    a box whose corners are the wrong way round.

    Args:
        pixels: float32 [3, height, width] in [-1, 1].
        box: fractions of the picture; may reach beyond it.
    """
    height, width = pixels.shape[1:]
    corners = np.array([box.y_min, box.x_min, box.y_max, box.x_max], dtype=np.float32)
    last = np.array([height - 1, width - 1] * 2, dtype=np.float32)
    top, left, bottom, right = (corners * last).astype(np.int64).tolist()
    if top > bottom or left > right:
        return pixels.copy()
    rows = slice(max(top, 0), max(min(bottom, height - 1) + 1, 0))
    columns = slice(max(left, 0), max(min(right, width - 1) + 1, 0))
    painted = pixels.copy()
    if bottom < top or right < left:
        return painted
    for channel, value in enumerate(_RED):
        for y in (top, bottom):
            if 0 <= y < height:
                painted[channel, y, columns] = value
        for x in (left, right):
            if 0 <= x < width:
                painted[channel, rows, x] = value
    return painted


def _paint(draw: ImageDraw.ImageDraw, label: Label) -> None:
    """A white rectangle with black text, as large as fits, in the middle at the top (big_vision's AI2D)."""
    left, right = sorted((label.left, label.right))
    top, bottom = sorted((label.top, label.bottom))
    draw.rectangle((left, top, right, bottom), fill="white")
    font, width = _fitting(label.text, right - left, bottom - top)
    draw.text((left + (right - left - width) // 2, top), label.text, fill="black", font=font)


def _fitting(text: str, width: int, height: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, int]:
    """The largest font in which the text fits, and the width of the text in it."""
    low, high = 1, _LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        _, _, right, bottom = _font(middle).getbbox(text)
        low, high = (middle, high) if right <= width and bottom <= height else (low, middle - 1)
    font = _font(low)
    return font, int(font.getbbox(text)[2])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
