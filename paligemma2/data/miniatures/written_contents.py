"""Contents to be read: signs and charts. No typeface is needed but that which Pillow brings."""

import random

import numpy as np
from PIL import Image, ImageDraw

from paligemma2.data.miniatures.content import SIDE, Asked, Content
from paligemma2.data.synthetic.fonts import PILLOW_FONT, load_font
from paligemma2.data.synthetic.lettering import draw_lettering, random_lettering
from paligemma2.data.synthetic.palette import COLORS, TRAINING_HSV, rgb_from_hsv

READING = "what is written?"
_SPLIT = "test"
_BARS = (2, 3)
_LARGEST = 9
_FLOOR, _CEILING = SIDE - 8, 20
_TEXT = 16


def read(rng: random.Random, number: int) -> Content:
    """A word of three to six capitals that pre-training never showed."""
    lettering = random_lettering(rng, _SPLIT, fonts=(PILLOW_FONT,))
    asked = Asked(question=READING, answer=lettering.word, kind="ocr")
    caption = f"a sign that says {lettering.word}"
    return Content(
        number=number,
        pictures=(draw_lettering(lettering, SIDE),),
        asked=(asked,),
        captions={"en": (caption,)},
    )


def chart(rng: random.Random, number: int) -> Content:
    """Two or three bars of different colours, each with its number above it."""
    names = rng.sample(COLORS, rng.choice(_BARS))
    values = [rng.randint(1, _LARGEST) for _ in names]
    asked = tuple(
        Asked(question=f"what is the value of the {name} bar?", answer=str(value), kind="value")
        for name, value in zip(names, values, strict=True)
    )
    caption = f"bars of {' and '.join(names)}"
    picture = _bars(names, values)
    return Content(
        number=number,
        pictures=(np.asarray(picture, dtype=np.uint8),),
        asked=asked,
        captions={"en": (caption,)},
    )


def _bars(names: list[str], values: list[int]) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    font = load_font(PILLOW_FONT, _TEXT)
    width = SIDE / len(names)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        left, right = (place + 0.2) * width, (place + 0.8) * width
        top = _FLOOR - (_FLOOR - _CEILING) * value / _LARGEST
        draw.rectangle((left, top, right, _FLOOR), fill=rgb_from_hsv(*TRAINING_HSV[name]))
        draw.text(((left + right) / 2, top - 2), str(value), fill="black", font=font, anchor="mb")
    draw.line((0, _FLOOR, SIDE, _FLOOR), fill="black")
    return picture
