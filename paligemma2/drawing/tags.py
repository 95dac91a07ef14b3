"""Tags: words in a coloured rectangle beside a box, where they hide no other tag."""

import math
from collections.abc import Iterator, Sequence

from PIL import ImageDraw, ImageFont

from paligemma2.drawing.colours import ink_on
from paligemma2.types import Detection

Rectangle = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max in pixels, all inside the picture
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SMALLEST_FONT = 10
_LINES_PER_PICTURE = (24, 44)  # lines of text as high as a square of this area: for few objects, for many
_MANY = 40
_LINES_AT_LEAST = 12  # as high as the shorter side


def draw_tags(
    draw: ImageDraw.ImageDraw,
    detections: Sequence[Detection],
    frames: Sequence[Rectangle],
    colours: dict[str, str],
) -> None:
    """Write label and score beside each frame, in letters that follow the size of the picture.

    The first tags have the first choice of places. Where the picture is too small for a readable tag, none is
    written. Signs that the built-in typeface does not have appear as an empty frame.
    """
    font = _font(draw.im.size, len(detections))
    taken: list[Rectangle] = []
    for detection, frame in zip(detections, frames, strict=True):
        _draw_tag(draw, tag_text(detection), frame, colours[detection.label], font=font, taken=taken)


def tag_text(detection: Detection) -> str:
    """The label on one line, without what cannot be drawn (line breaks, lone surrogates), and the score."""
    label = on_one_line(detection.label)
    return label if detection.score is None else f"{label} {detection.score:.2f}".strip()


def on_one_line(text: str) -> str:
    """`text` without what cannot be drawn: line breaks, lone surrogates, NUL."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())


def shortened(text: str, font: Font, width: float) -> str:
    """`text` cut with an ellipsis to fit `width` pixels; empty where not even one letter fits."""
    text = text[:200]  # far more than any picture can show; measuring is slow for very long labels
    if font.getlength(text) <= width:
        return text
    cuts = (text[:end].rstrip() + "…" for end in range(len(text) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")


def line_height(font: Font) -> int:
    """Pixels from the top of a line of text to the foot of its lowest letters."""
    return round(font.getbbox("Ágjy|")[3])


def _font(picture: tuple[int, int], num_tags: int) -> Font:
    few, many = _LINES_PER_PICTURE
    lines = few + (many - few) * min(num_tags, _MANY) / _MANY
    size = min(math.sqrt(picture[0] * picture[1]) / lines, min(picture) / _LINES_AT_LEAST)
    return ImageFont.load_default(max(SMALLEST_FONT, size))


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    frame: Rectangle,
    colour: str,
    *,
    font: Font,
    taken: list[Rectangle],
) -> None:
    width, height = draw.im.size
    padding = max(2, round(line_height(font) / 5))
    text = shortened(text, font, width - 2 * padding)
    tag_width, tag_height = round(font.getlength(text)) + 2 * padding, line_height(font) + 2 * padding
    if not text or tag_height * 2 > height:
        return
    tag = _best_place(frame, tag_width, tag_height, picture=(width, height), taken=taken)
    taken.append(tag)
    draw.rectangle(tag, fill=colour)
    draw.text((tag[0] + padding, tag[1] + padding), text, font=font, fill=ink_on(colour))


def _best_place(
    frame: Rectangle, width: int, height: int, *, picture: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """The first place for a tag that hides no other tag; else the one that hides least of them."""
    best, least = None, -1
    for place in _places(frame, width, height, picture):
        hidden = sum(_shared_pixels(place, other) for other in taken)
        if not hidden:
            return place
        if best is None or hidden < least:
            best, least = place, hidden
    assert best is not None  # a tag that fits into the picture has a place
    return best


def _places(frame: Rectangle, width: int, height: int, picture: tuple[int, int]) -> Iterator[Rectangle]:
    """Above the box, inside its top and bottom edges, below it; then along its sides; within the picture."""
    left, top, right, bottom = frame
    at_edges = (top - height, top, bottom - height + 1, bottom + 1)
    along_sides = tuple(range(top + height, bottom - height + 1, height))
    beyond = tuple(range(bottom + 1 + height, picture[1], height)) + tuple(
        range(top - 2 * height, 0, -height)
    )
    for heights in (at_edges, along_sides, beyond):
        for x in (left, right - width + 1):
            for y in heights:
                if 0 <= y <= picture[1] - height:
                    x_inside = min(max(x, 0), picture[0] - width)
                    yield x_inside, y, x_inside + width - 1, y + height - 1
    yield 0, 0, width - 1, height - 1


def _shared_pixels(a: Rectangle, b: Rectangle) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(width, 0) * max(height, 0)
