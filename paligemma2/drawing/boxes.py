"""Pictures with the objects of an answer drawn on them."""

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from paligemma2.types import Box, Detection

Rectangle = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max in pixels, all inside the picture
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Tol's bright and vibrant colours: told apart by colour-blind readers, strong on light and on dark pictures.
PALETTE = ("#ee7733", "#0077bb", "#ee3377", "#009988", "#aa3377", "#ccbb44", "#cc3311", "#33bbee")
DARK, LIGHT = "#101418", "#ffffff"
SMALLEST_FONT, LARGEST_FONT = 10, 44


def draw_detections(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """A copy of `image` (mode RGB, upright) with a coloured box and a label tag for every object.

    Lines and letters follow the size of the picture. Objects of one label have one colour. Where the
    picture is too small for a readable tag, only the boxes are drawn. Transparent pixels become white. Signs
    that the built-in typeface does not have appear as an empty frame.
    """
    picture = _opaque(ImageOps.exif_transpose(image))
    draw = ImageDraw.Draw(picture)
    colours = _colours(detections)
    frames = [_rectangle(detection.box, picture) for detection in detections]
    for detection, frame in zip(detections, frames, strict=True):
        _draw_frame(draw, frame, colours[detection.label])
    taken: list[Rectangle] = []
    for detection, frame in zip(detections, frames, strict=True):
        _draw_tag(draw, _tag_text(detection), frame, colours[detection.label], taken=taken)
    return picture


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _colours(detections: Sequence[Detection]) -> dict[str, str]:
    labels = dict.fromkeys(detection.label for detection in detections)
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(labels)}


def _rectangle(box: Box, picture: Image.Image) -> Rectangle:
    y_min, x_min, y_max, x_max = box.pixels(picture.height, picture.width)
    left, right = sorted(_inside(x, picture.width) for x in (x_min, x_max))
    top, bottom = sorted(_inside(y, picture.height) for y in (y_min, y_max))
    return left, top, right, bottom


def _inside(position: float, length: int) -> int:
    return round(min(max(position, 0.0), length - 1.0))


def _draw_frame(draw: ImageDraw.ImageDraw, frame: Rectangle, colour: str) -> None:
    """A line inside the box, with a thin dark edge around it where the picture is large enough for one."""
    thickness = max(1, round(min(draw.im.size) / 130))
    if thickness > 1:
        left, top, right, bottom = frame
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=DARK)
    draw.rectangle(frame, outline=colour, width=thickness)


def _tag_text(detection: Detection) -> str:
    """The label on one line, without what cannot be drawn (line breaks, lone surrogates), and the score."""
    label = " ".join(detection.label.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())
    return label if detection.score is None else f"{label} {detection.score:.2f}".strip()


def _draw_tag(
    draw: ImageDraw.ImageDraw, text: str, frame: Rectangle, colour: str, *, taken: list[Rectangle]
) -> None:
    width, height = draw.im.size
    font = ImageFont.load_default(min(max(SMALLEST_FONT, min(width, height) / 24), LARGEST_FONT))
    padding = max(2, round(_line_height(font) / 5))
    text = _shortened(text, font, width - 2 * padding)
    tag_width, tag_height = round(font.getlength(text)) + 2 * padding, _line_height(font) + 2 * padding
    if not text or tag_height * 2 > height:
        return
    tag = _free_place(frame, tag_width, tag_height, picture=(width, height), taken=taken)
    taken.append(tag)
    draw.rectangle(tag, fill=colour)
    draw.text((tag[0] + padding, tag[1] + padding), text, font=font, fill=_ink(colour))


def _line_height(font: Font) -> int:
    return round(font.getbbox("Ágjy|")[3])


def _shortened(text: str, font: Font, width: float) -> str:
    """`text` cut with an ellipsis to fit `width` pixels; empty where not even one letter fits."""
    text = text[:200]  # far more than any picture can show; measuring is slow for very long labels
    if font.getlength(text) <= width:
        return text
    cuts = (text[:end].rstrip() + "…" for end in range(len(text) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")


def _free_place(
    frame: Rectangle, width: int, height: int, *, picture: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """The first place for a tag that hides no other tag; on top of the box where all of them do."""
    places = list(_places(frame, width, height, picture))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _places(frame: Rectangle, width: int, height: int, picture: tuple[int, int]) -> Iterator[Rectangle]:
    """Above the box, inside its top edge, inside its bottom edge, below it; moved into the picture."""
    left, top, right, bottom = frame
    for x in (left, right - width + 1):
        for y in (top - height, top, bottom - height + 1, bottom + 1):
            if 0 <= y <= picture[1] - height:
                x_inside = min(max(x, 0), picture[0] - width)
                yield x_inside, y, x_inside + width - 1, y + height - 1


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _ink(colour: str) -> str:
    """Dark letters on light colours, light ones on dark colours."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else LIGHT
