"""Masks of drawn figures, as the mask codec sees them: cut to the tight box and resized to 64 × 64.

A figure is drawn in any size and a little turned, so that one figure gives many masks that are almost equal.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.seeds import random_for
from paligemma2.data.synthetic.shapes import SHAPES, random_outline
from paligemma2.data.synthetic.targets import MASK_SIZE

_Points: TypeAlias = npt.NDArray[np.float64]
_SMALLEST, _LARGEST = 48, 256
_LEAST_AREA = 0.08
_MARGIN = 1.15


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """Outlines laid over each other.

    Attributes:
        outlines: float64 [points, 2] each, about -0.5..0.5.
        is_solid: of each outline: whether its inside is added, or taken away.
        softness: width of the edge as a share of the longer side; 0 for hard edges.
    """

    outlines: tuple[_Points, ...]
    is_solid: tuple[bool, ...]
    softness: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a figure is put on a canvas.

    Attributes:
        size: of the canvas in pixels; a small one gives steps in the edges.
        turn: in radians.
        stretch: factors of width and height, which only matter together with a turn and the canvas.
        shifts: of left, top, right and bottom edge of the box, as shares of its side.
    """

    size: int = _LARGEST
    turn: float = 0.0
    stretch: tuple[float, float] = (1.0, 1.0)
    shifts: tuple[float, float, float, float] = field(default=(0.0, 0.0, 0.0, 0.0))


def _turned(points: _Points, angle: float) -> _Points:
    cosine, sine = math.cos(angle), math.sin(angle)
    turned: _Points = points @ np.array([[cosine, sine], [-sine, cosine]])
    return turned


def _placed(points: _Points, rng: random.Random, *, scale: tuple[float, float], reach: float) -> _Points:
    middle = np.array([rng.uniform(-reach, reach), rng.uniform(-reach, reach)])
    placed: _Points = points * rng.uniform(*scale) + middle
    return placed


def _shape_outline(rng: random.Random) -> _Points:
    """One of the seven shapes; most stand upright, as in the pictures of this world."""
    points = random_outline(rng.choice(SHAPES), rng, wobble=rng.choice((0.0, 0.0, 0.06)))
    if rng.random() < 0.25:
        points = _turned(points, rng.uniform(0, 2 * math.pi))
    stretched: _Points = points * np.array([1.0, math.exp(rng.uniform(-0.4, 0.4))])
    return stretched


def _blob_outline(rng: random.Random) -> _Points:
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    radii = np.ones_like(angles)
    for waves in range(1, 6):
        height = rng.uniform(0, 0.7) / waves
        radii += height * np.sin(waves * angles + rng.uniform(0, 2 * math.pi))
    radii = np.maximum(radii, 0.15) / 3
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _polygon_outline(rng: random.Random) -> _Points:
    count = rng.randint(3, 10)
    turns = np.array([rng.uniform(0.4, 1.0) for _ in range(count)])
    angles = 2 * math.pi * np.cumsum(turns) / turns.sum() + rng.uniform(0, 2 * math.pi)
    radii = np.array([rng.uniform(0.2, 0.5) for _ in range(count)])
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _any_outline(rng: random.Random) -> _Points:
    return rng.choice((_shape_outline, _shape_outline, _blob_outline, _polygon_outline))(rng)


def _shape(rng: random.Random) -> Figure:
    return Figure(outlines=(_shape_outline(rng),), is_solid=(True,))


def _blob(rng: random.Random) -> Figure:
    return Figure(outlines=(_blob_outline(rng),), is_solid=(True,))


def _polygon(rng: random.Random) -> Figure:
    return Figure(outlines=(_polygon_outline(rng),), is_solid=(True,))


def _union(rng: random.Random) -> Figure:
    others = [_placed(_any_outline(rng), rng, scale=(0.5, 1.0), reach=0.4) for _ in range(rng.randint(1, 2))]
    outlines = (_any_outline(rng), *others)
    return Figure(outlines=outlines, is_solid=(True,) * len(outlines))


def _hole(rng: random.Random) -> Figure:
    hole = _placed(_any_outline(rng), rng, scale=(0.3, 0.55), reach=0.08)
    return Figure(outlines=(_any_outline(rng), hole), is_solid=(True, False))


def _occlusion(rng: random.Random) -> Figure:
    angle = rng.uniform(0, 2 * math.pi)
    cover = _any_outline(rng) * rng.uniform(0.5, 1.0)
    middle = rng.uniform(0.35, 0.55) * np.array([math.cos(angle), math.sin(angle)])
    return Figure(outlines=(_any_outline(rng), cover + middle), is_solid=(True, False))


def _alpha(rng: random.Random) -> Figure:
    return Figure(outlines=(_any_outline(rng),), is_solid=(True,), softness=rng.uniform(0.02, 0.1))


_FAMILIES: Mapping[str, tuple[Callable[[random.Random], Figure], float]] = {
    "shape": (_shape, 0.45),
    "blob": (_blob, 0.14),
    "polygon": (_polygon, 0.14),
    "union": (_union, 0.08),
    "hole": (_hole, 0.06),
    "occlusion": (_occlusion, 0.07),
    "alpha": (_alpha, 0.06),
}
"""What is drawn, and its share."""

FAMILIES = tuple(_FAMILIES)


def draw_figure(figure: Figure, drawing: Drawing) -> Pixels | None:
    """The mask of a figure inside its tight box, uint8 [64, 64], 0 to 255; None if too little is left of it.

    The box is where the mask is above half, in whole pixels; the resizing (bilinear, antialiased) is that of
    big_vision `pp/proj/paligemma/segmentation.py`. Pixels just outside show at the border: real boxes are
    seldom quite tight.
    """
    outlines = [_turned(points, drawing.turn) * drawing.stretch for points in figure.outlines]
    reach = _MARGIN * 2 * max(float(np.abs(points).max()) for points in outlines)
    canvas = Image.new("L", (drawing.size, drawing.size), 0)
    for points, is_solid in zip(outlines, figure.is_solid, strict=True):
        corners = (points / reach + 0.5) * drawing.size - 0.5
        ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), fill=255 * is_solid)
    if figure.softness:
        canvas = canvas.filter(ImageFilter.BoxBlur(figure.softness * drawing.size / 2))
    box = canvas.point(lambda value: 255 * (value >= 128)).getbbox()
    if box is None:
        return None
    mask = np.asarray(
        canvas.resize((MASK_SIZE, MASK_SIZE), Image.Resampling.BILINEAR, _shifted(box, drawing))
    )
    return mask if (mask >= 128).mean() >= _LEAST_AREA else None


def _shifted(box: tuple[int, int, int, int], drawing: Drawing) -> tuple[float, float, float, float]:
    width, height = box[2] - box[0], box[3] - box[1]
    left, top, right, bottom = (
        edge + shift * side
        for edge, shift, side in zip(box, drawing.shifts, (width, height, width, height), strict=True)
    )
    size = drawing.size
    return max(left, 0), max(top, 0), min(right, size), min(bottom, size)


def random_drawing(rng: random.Random, *, amount: float) -> Drawing:
    """A drawing that changes a figure a little.

    Args:
        rng: source of all choices.
        amount: 1 for turns of up to 4 degrees and boxes that are off by up to a 64th of their side.
    """
    stretch = (1 + amount * rng.uniform(-0.03, 0.03), 1 + amount * rng.uniform(-0.03, 0.03))
    left, top, right, bottom = (amount * rng.uniform(-1, 1) / MASK_SIZE for _ in range(4))
    return Drawing(
        size=round(_SMALLEST * (_LARGEST / _SMALLEST) ** rng.random()),
        turn=amount * rng.uniform(-1, 1) * math.radians(4),
        stretch=stretch,
        shifts=(left, top, right, bottom),
    )


def random_family(rng: random.Random) -> str:
    """One of `FAMILIES`, by their shares."""
    return rng.choices(FAMILIES, [share for _, share in _FAMILIES.values()])[0]


def figure_of(family: str, rng: random.Random) -> Figure:
    """A random figure of a family, of which enough is left to be drawn."""
    while True:
        figure = _FAMILIES[family][0](rng)
        if draw_figure(figure, Drawing(size=MASK_SIZE)) is not None:
            return figure


def held_out_figure(family: str, split: str, index: int) -> Figure:
    """The figure of a family with this number; no two splits share one.

    Raises:
        InputError: there is no such split, or `index` is negative.
    """
    return figure_of(family, random_for(f"mask/{family}", split, index))
