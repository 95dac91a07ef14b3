"""Pictures of one written word, and where each of its letters is."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from paligemma2.data.synthetic.backgrounds import Background, draw_background, random_background
from paligemma2.data.synthetic.fonts import fonts_of, load_font
from paligemma2.data.synthetic.palette import BLACK, RGB, blend, rgb_from_hsv
from paligemma2.data.synthetic.render import apply_finish
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.scenes import Finish, random_finish, theme_of
from paligemma2.data.synthetic.shapes import Points
from paligemma2.data.synthetic.words import random_word
from paligemma2.types import Box

_FINE = 2
_MEASURE = 200
"""Letters are measured once, at this size in pixels."""
_TALLEST = 0.42
_WIDEST = 0.95
_EDGE = 0.015
_CONTRAST = 260.0
_BOARD_SHARE = 0.25
_BOARD_FINE = 3


@dataclass(frozen=True, kw_only=True)
class Board:
    """A panel that a word stands on, turned with the word.

    Attributes:
        fill: its colour.
        edge: colour of its edge.
        edge_width: fraction of the picture's side.
        margins: (x, y) from the word to the outside of the edge, fractions of the picture's side.
        roundness: of its corners; 0 for square, 1 for as round as they get.
    """

    fill: RGB
    edge: RGB
    edge_width: float
    margins: tuple[float, float]
    roundness: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Lettering:
    """A word ready to be drawn. Lengths are fractions of the picture's side.

    Attributes:
        em: size of the typeface.
        starts: where each letter starts on the unturned line, from the middle of the word.
        baseline: how far the line that letters stand on is below the middle of the word.
        middle: (x, y) of the middle of the word.
        angle: degrees, counter-clockwise.
        glyphs: [letters, 4, 2] corners (x, y) of each letter's tight box, turned with the word.
        board: what the word stands on; None for the background itself.
    """

    word: str
    font: str
    em: float
    starts: tuple[float, ...]
    baseline: float
    half_width: float
    half_height: float
    middle: tuple[float, float]
    angle: float
    color: RGB
    background: Background
    finish: Finish
    glyphs: Points
    board: Board | None = None


@lru_cache(maxsize=4096)
def _measure(font: str, letter: str) -> tuple[float, float, float, float, float]:
    """(left, top, right, bottom, advance) of a letter on its baseline, as fractions of the em."""
    loaded = load_font(font, _MEASURE)
    left, top, right, bottom = loaded.getbbox(letter, anchor="ls")
    return (
        left / _MEASURE,
        top / _MEASURE,
        right / _MEASURE,
        bottom / _MEASURE,
        loaded.getlength(letter) / _MEASURE,
    )


def _line(word: str, font: str, rng: random.Random) -> npt.NDArray[np.float64]:
    """[letters, 5]: the start of each letter and its box (left, top, right, bottom), in ems from (0, 0)."""
    spacing, jitter = rng.uniform(0.0, 0.12), rng.uniform(0.0, 0.03)
    rows, x = [], 0.0
    for letter in word:
        left, top, right, bottom, advance = _measure(font, letter)
        rows.append((x, x + left, top, x + right, bottom))
        x += advance + spacing + rng.uniform(-jitter, jitter)
    return np.array(rows)


def random_lettering(rng: random.Random, split: str, fonts: Sequence[str] | None = None) -> Lettering:
    """A word of the split in one of `fonts` (of the split's own for None), all else left to chance."""
    word, font = random_word(rng, split), rng.choice(fonts or fonts_of(split))
    line = _line(word, font, rng)
    left, top, right, bottom = line[:, 1].min(), line[:, 2].min(), line[:, 3].max(), line[:, 4].max()
    # Long words need more room, or a letter is smaller than a patch.
    width = rng.uniform(0.60 + 0.08 * (len(word) - 3), _WIDEST)
    em = float(min(width / (right - left), _TALLEST / (bottom - top)))
    line = line * em
    middle_x, middle_y = (left + right) / 2 * em, (top + bottom) / 2 * em
    half_width, half_height = float(right - left) / 2 * em, float(bottom - top) / 2 * em
    angle = _random_angle(rng, half_width, half_height)
    glyphs = _turned_boxes(line[:, 1:] - np.array([middle_x, middle_y] * 2), angle)
    reach_x, reach_y = np.abs(glyphs).max(axis=(0, 1)).tolist()
    middle = (_random_middle(rng, reach_x), _random_middle(rng, reach_y))
    color, fields = _random_ink(rng), theme_of(split).fields
    board = _random_board(rng, color) if rng.random() < _BOARD_SHARE else None
    return Lettering(
        word=word,
        font=font,
        em=em,
        starts=tuple((line[:, 0] - middle_x).tolist()),
        baseline=-float(middle_y),
        half_width=half_width,
        half_height=half_height,
        middle=middle,
        angle=angle,
        color=color,
        background=random_background(rng, fields, () if board else (color,), contrast=_CONTRAST),
        finish=random_finish(rng),
        glyphs=glyphs + np.array(middle),
        board=board,
    )


def _random_board(rng: random.Random, ink: RGB) -> Board:
    fill = random_background(rng, ("plain",), (ink,), contrast=_CONTRAST).first
    edge = rng.choice((fill, ink, blend(fill, BLACK, rng.uniform(0.3, 0.8))))
    width = rng.uniform(0.01, 0.04)
    return Board(
        fill=fill,
        edge=edge,
        edge_width=width,
        margins=(width + rng.uniform(0.02, 0.08), width + rng.uniform(0.03, 0.12)),
        roundness=rng.choice((0.0, rng.uniform(0.1, 0.6))),
    )


def _random_angle(rng: random.Random, half_width: float, half_height: float) -> float:
    """Up to 6 degrees either way, less where the word would not fit."""
    angle = rng.uniform(-6.0, 6.0) if rng.random() < 0.7 else 0.0
    while (
        half_width * math.cos(math.radians(angle)) + half_height * abs(math.sin(math.radians(angle))) > 0.49
    ):
        angle *= 0.7
    return angle


def _random_middle(rng: random.Random, reach: float) -> float:
    room = max(0.0, 0.5 - _EDGE - reach)
    return 0.5 + rng.uniform(-room, room)


def _random_ink(rng: random.Random) -> RGB:
    hue, kind = rng.random(), rng.random()
    if kind < 0.35:
        return rgb_from_hsv(hue, rng.uniform(0, 0.4), rng.uniform(0.0, 0.2))
    if kind < 0.6:
        return rgb_from_hsv(hue, rng.uniform(0, 0.15), rng.uniform(0.88, 1.0))
    return rgb_from_hsv(hue, rng.uniform(0.6, 1.0), rng.uniform(0.5, 1.0))


def _turned_boxes(boxes: npt.NDArray[np.float64], angle: float) -> Points:
    """[letters, 4, 2] corners of [letters, 4] boxes, turned around (0, 0)."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]  # [letters, 4, 2]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned: Points = corners @ np.array([[cosine, -sine], [sine, cosine]])
    return turned


def draw_lettering(lettering: Lettering, size: int) -> Pixels:
    """The word as uint8 [size, size, 3]; the same word looks alike in every size."""
    picture = draw_background(lettering.background, size)
    if lettering.board is not None:
        _paint_board(picture, lettering, lettering.board)
    _paste(picture, lettering.color, _word_mask(lettering, size), lettering.middle)
    return apply_finish(picture, lettering.finish)


def _paint_board(picture: Image.Image, lettering: Lettering, board: Board) -> None:
    scale = picture.width * _BOARD_FINE
    half_width = round((lettering.half_width + board.margins[0]) * scale)
    half_height = round((lettering.half_height + board.margins[1]) * scale)
    corners = (0, 0, 2 * half_width - 1, 2 * half_height - 1)
    radius, edge = board.roundness * min(half_width, half_height), round(board.edge_width * scale)
    whole = Image.new("L", (2 * half_width, 2 * half_height), 0)
    inside = whole.copy()
    ImageDraw.Draw(whole).rounded_rectangle(corners, radius, fill=255)
    inner = (edge, edge, corners[2] - edge, corners[3] - edge)
    ImageDraw.Draw(inside).rounded_rectangle(inner, max(0.0, radius - edge), fill=255)
    for mask, color in ((whole, board.edge), (inside, board.fill)):
        turned = mask.rotate(lettering.angle, resample=Image.Resampling.BILINEAR, expand=True)
        _paste(picture, color, turned.reduce(_BOARD_FINE), lettering.middle)


def _paste(picture: Image.Image, color: RGB, mask: Image.Image, middle: tuple[float, float]) -> None:
    left = middle[0] * picture.width - mask.width / 2
    top = middle[1] * picture.height - mask.height / 2
    picture.paste(color, (round(left), round(top)), mask)


def _word_mask(lettering: Lettering, size: int) -> Image.Image:
    scale = size * _FINE
    font = load_font(lettering.font, max(1, round(lettering.em * scale)))
    half_width = math.ceil(lettering.half_width * scale) + _FINE
    half_height = math.ceil(lettering.half_height * scale) + _FINE
    mask = Image.new("L", (2 * half_width, 2 * half_height), 0)
    draw = ImageDraw.Draw(mask)
    for letter, start in zip(lettering.word, lettering.starts, strict=True):
        place = (half_width + start * scale, half_height + lettering.baseline * scale)
        draw.text(place, letter, fill=255, font=font, anchor="ls")
    if lettering.angle:
        mask = mask.rotate(lettering.angle, resample=Image.Resampling.BILINEAR, expand=True)
    return mask.reduce(_FINE)


def draw_letter_numbers(lettering: Lettering, size: int) -> npt.NDArray[np.uint8]:
    """Which letter each pixel belongs to, uint8 [size, size]: 0 for none, i + 1 for the letter i."""
    numbers = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(numbers)
    for number, corners in enumerate(lettering.glyphs, start=1):
        draw.polygon((corners * size - 0.5).ravel().tolist(), fill=number)
    return np.asarray(numbers, dtype=np.uint8)


def letter_box(lettering: Lettering, place: int) -> Box:
    """The upright box around one letter."""
    (x_min, y_min), (x_max, y_max) = (
        lettering.glyphs[place].min(axis=0).tolist(),
        lettering.glyphs[place].max(axis=0).tolist(),
    )
    return Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)
