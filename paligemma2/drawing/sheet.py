"""A contact sheet: many pictures on one, each with a few words below it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from paligemma2.drawing.boxes import draw_detections
from paligemma2.drawing.tags import Font, line_height, on_one_line, shortened
from paligemma2.errors import InputError
from paligemma2.types import Detection

MAX_TILES = 400
"""More would make a picture that few programs open."""
THUMBNAIL_SIDE = 320
_GAP, _PADDING = 16, 10
_FONT = 15
_TEXT_LINES = 3
_GROUND, _CARD, _INK, _SOFT = "#e9ecf0", "#ffffff", "#1b2027", "#5c6773"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a sheet (at most 320 × 320 pixels, or None for a blank), a title line, a short text."""

    image: Image.Image | None
    title: str = ""
    text: str = ""


def thumbnail(
    image: Image.Image,
    detections: Sequence[Detection],
    *,
    labels: Iterable[str] = (),
    side: int = THUMBNAIL_SIDE,
) -> Image.Image:
    """A copy, at most `side` × `side` pixels, with the objects drawn on it in lines and letters of that size.

    A small picture is enlarged a whole number of times, if that leaves it within the limit.

    Args:
        image: any size and mode.
        detections: objects; see `draw_detections`.
        labels: see `draw_detections`.
        side: in pixels.
    """
    upright = ImageOps.exif_transpose(image)
    times = side // max(upright.size)
    if times > 1:
        size = (upright.width * times, upright.height * times)
        small = upright.resize(size, Image.Resampling.NEAREST)
    else:
        small = upright.copy()
        small.thumbnail((side, side))
    return draw_detections(small, detections, labels=labels)


def draw_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """The tiles in rows, in a picture (mode RGB) about as wide as high.

    Raises:
        InputError: there is no tile, or there are more than 400.
    """
    if not 0 < len(tiles) <= MAX_TILES:
        raise InputError(
            f"{len(tiles)} pictures on one sheet", hint=f"give 1 to {MAX_TILES}, or make several sheets"
        )
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    font = ImageFont.load_default(_FONT)
    width, height = _tile_size(font)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _GROUND)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        _draw_tile(sheet, tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)), font)
    return sheet


def _tile_size(font: Font) -> tuple[int, int]:
    words = (1 + _TEXT_LINES) * _line(font) + 2 * _PADDING
    return THUMBNAIL_SIDE + 2 * _PADDING, _PADDING + THUMBNAIL_SIDE + words


def _line(font: Font) -> int:
    return round(line_height(font) * 1.3)


def _draw_tile(sheet: Image.Image, tile: Tile, corner: tuple[int, int], font: Font) -> None:
    (left, top), (width, height) = corner, _tile_size(font)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_CARD)
    if tile.image is None:
        blank = (left + _PADDING, top + _PADDING)
        draw.rectangle((*blank, *(side + THUMBNAIL_SIDE - 1 for side in blank)), fill=_GROUND)
    else:
        x = left + (width - tile.image.width) // 2
        sheet.paste(tile.image, (x, top + _PADDING + (THUMBNAIL_SIDE - tile.image.height) // 2))
    x, y = left + _PADDING, top + 2 * _PADDING + THUMBNAIL_SIDE
    draw.text((x, y), shortened(on_one_line(tile.title), font, THUMBNAIL_SIDE), font=font, fill=_SOFT)
    for line in _lines(on_one_line(tile.text), font):
        y += _line(font)
        draw.text((x, y), line, font=font, fill=_INK)


def _lines(text: str, font: Font) -> Iterator[str]:
    """`text` in lines as wide as a thumbnail, cut with an ellipsis in the last one."""
    words = text[:1000].split()
    for _ in range(_TEXT_LINES - 1):
        count = _num_fitting(words, font)
        yield " ".join(words[:count])
        words = words[count:]
    yield shortened(" ".join(words), font, THUMBNAIL_SIDE)


def _num_fitting(words: Sequence[str], font: Font) -> int:
    """How many words fit into one line; 0 if not even the first does."""
    count = 0
    while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= THUMBNAIL_SIDE:
        count += 1
    return count
