"""Pictures with the objects of an answer drawn on them."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from paligemma2.drawing.colours import ink_on, label_colours
from paligemma2.drawing.tags import Rectangle, draw_tags
from paligemma2.processing.masks import mask_box
from paligemma2.types import Box, Detection

SMALLEST_SIDE = 320  # of a picture in which boxes, masks and words are told apart
_LINES_PER_PICTURE = 130  # lines as thick as the shorter side is long
_FILL_OPACITY = [0] * 255 + [105]  # of the inside of a mask, by the mask's own grey
_WHITE_ONLY = [0] * 255 + [255]


def draw_detections(
    image: Image.Image, detections: Sequence[Detection], *, labels: Iterable[str] = ()
) -> Image.Image:
    """A copy of `image` (mode RGB, upright) with every object's box, its mask if it has one, label and score.

    Lines and letters follow the size of the picture; where it is too small for a readable tag, only boxes and
    masks are drawn. Small objects lie on top of large ones. Objects of one label have one colour. Transparent
    pixels become white.

    Args:
        image: any size and mode.
        detections: boxes and masks are of the whole picture; a mask of another size is stretched.
        labels: have the first colours, so that a label has the same one on many pictures.
    """
    picture = _opaque(ImageOps.exif_transpose(image))
    colours = label_colours([*labels, *(detection.label for detection in detections)])
    frames = [_rectangle(detection.box, picture) for detection in detections]
    below_first = sorted(range(len(frames)), key=lambda i: -_num_pixels(frames[i]))
    for i in below_first:
        mask = detections[i].mask
        if mask is not None:
            _draw_mask(picture, mask, colours[detections[i].label])
    draw = ImageDraw.Draw(picture)
    for i in below_first:
        _draw_frame(draw, frames[i], colours[detections[i].label])
    draw_tags(draw, detections, frames, colours)
    return picture


def enlarged(image: Image.Image) -> Image.Image:
    """A small picture a whole number of times as large, pixel for pixel, so that it can be drawn on.

    The longer side becomes at least 320 pixels; a larger picture stays as it is.
    """
    times = math.ceil(SMALLEST_SIDE / max(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _rectangle(box: Box, picture: Image.Image) -> Rectangle:
    y_min, x_min, y_max, x_max = box.pixels(picture.height, picture.width)
    left, right = sorted(_inside(x, picture.width) for x in (x_min, x_max))
    top, bottom = sorted(_inside(y, picture.height) for y in (y_min, y_max))
    return left, top, right, bottom


def _inside(position: float, length: int) -> int:
    return round(min(max(position, 0.0), length - 1.0))


def _num_pixels(frame: Rectangle) -> int:
    return (frame[2] - frame[0]) * (frame[3] - frame[1])


def _thickness(picture: tuple[int, int]) -> int:
    return max(1, round(min(picture) / _LINES_PER_PICTURE))


def _draw_frame(draw: ImageDraw.ImageDraw, frame: Rectangle, colour: str) -> None:
    """A line inside the box, and around it a thin edge that sets it off where the picture is large enough."""
    thickness = _thickness(draw.im.size)
    edge = thickness // 2
    if edge:
        left, top, right, bottom = frame
        outside = (left - edge, top - edge, right + edge, bottom + edge)
        draw.rectangle(outside, outline=ink_on(colour), width=edge)
    draw.rectangle(frame, outline=colour, width=thickness)


def _draw_mask(picture: Image.Image, mask: NDArray[np.bool_], colour: str) -> None:
    """The mask in translucent colour, its rim in full colour with a thin edge that sets it off."""
    box = mask_box(mask)
    if box is None:
        return
    left, top, right, bottom = (round(side) for side in _x_before_y(box.pixels(*mask.shape)))
    inside = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255)
    left, top, right, bottom = (
        round(side) for side in _x_before_y(box.pixels(picture.height, picture.width))
    )
    part = inside.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.NEAREST)
    thickness = _thickness(picture.size)
    rim, edge = _inner_rim(part, thickness), _inner_rim(part, thickness // 3)
    picture.paste(colour, (left, top), part.point(_FILL_OPACITY))
    picture.paste(colour, (left, top), rim)
    picture.paste(ink_on(colour), (left, top), edge)


def _x_before_y(corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    y_min, x_min, y_max, x_max = corners
    return x_min, y_min, x_max, y_max


def _inner_rim(mask: Image.Image, thickness: int) -> Image.Image:
    """White where something black is within `thickness` pixels of the mask's white; the outside is black."""
    # The mean of the surroundings is below white near the mask's edge only.
    surroundings = ImageOps.expand(mask, thickness + 1).filter(ImageFilter.BoxBlur(thickness))
    return ImageChops.subtract(mask, ImageOps.crop(surroundings, thickness + 1).point(_WHITE_ONLY))
