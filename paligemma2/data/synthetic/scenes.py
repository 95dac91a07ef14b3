"""Scenes: which objects there are, where they lie and how they look. No pixels yet."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from paligemma2.data.synthetic.backgrounds import (
    OTHER_FIELDS,
    TRAINING_FIELDS,
    Background,
    random_background,
)
from paligemma2.data.synthetic.palette import (
    BLACK,
    COLORS,
    HSV,
    OTHER_HSV,
    RGB,
    TRAINING_HSV,
    blend,
    shade_of,
)
from paligemma2.data.synthetic.seeds import OTHER_STYLE_SPLIT
from paligemma2.data.synthetic.shapes import SHAPES, Points, random_outline
from paligemma2.errors import InputError
from paligemma2.types import Box

MAX_OBJECTS = 4
MIN_X_DISTANCE = 0.08
"""Least distance between the middles of two objects, so that "left to right" is never in doubt."""
MIN_Y_DISTANCE = 0.12
"""Least distance for which an answer says that one object is above another."""

_SMALLEST, _LARGEST = 0.22, 0.50
_EDGE = 0.015
_MAX_OVERLAP = 0.12
_CONTRAST = 140.0
_WHITE: RGB = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Theme:
    """A family of looks. `styles` may repeat a name to make it more likely."""

    hsv: Mapping[str, HSV]
    styles: tuple[str, ...]
    fields: tuple[str, ...]
    wobble_share: float


TRAINING_THEME = Theme(
    hsv=TRAINING_HSV,
    styles=("filled", "filled", "dark_outline", "light_outline", "outline", "hatched", "mottled"),
    fields=TRAINING_FIELDS,
    wobble_share=0.35,
)
OTHER_THEME = Theme(
    hsv=OTHER_HSV,
    styles=("sketchy", "dotted", "chalk", "cross_hatched", "faded"),
    fields=OTHER_FIELDS,
    wobble_share=0.5,
)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What an object is, apart from its place and look."""

    shape: str
    color: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """How an object is drawn. `thickness` and `period` are fractions of its longer side."""

    style: str
    main: RGB
    second: RGB
    thickness: float
    period: float
    angle: float
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneObject:
    """One object.

    `outline` is [points, 2] (x, y) in fractions of the picture; `box` is the tight box of the whole object,
    also where another object hides a part of it.
    """

    shape: str
    color: str
    outline: Points
    box: Box
    look: Look

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the middle of the box."""
        return (self.box.x_min + self.box.x_max) / 2, (self.box.y_min + self.box.y_max) / 2


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What the "camera" does: blur radius as a fraction of the side, noise in grey levels."""

    blur: float
    noise: int
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A whole picture. `objects` are in drawing order: a later one hides an earlier one."""

    objects: tuple[SceneObject, ...]
    background: Background
    finish: Finish

    @cached_property
    def left_to_right(self) -> tuple[SceneObject, ...]:
        """The objects in the order in which answers name them."""
        return tuple(sorted(self.objects, key=lambda item: item.center[0]))


Objects: TypeAlias = Sequence[SceneObject]


def matching(objects: Objects, *, shape: str | None = None, color: str | None = None) -> list[SceneObject]:
    """The objects of this shape and this colour; None stands for any."""
    return [item for item in objects if shape in (None, item.shape) and color in (None, item.color)]


def absent_content(objects: Objects, rng: random.Random) -> Content:
    """Something that is not there, but of which the colour or the shape is, most of the time."""
    while True:
        color, shape = rng.choice(COLORS), rng.choice(SHAPES)
        near = rng.random()
        if near < 0.4:
            color = rng.choice(objects).color
        elif near < 0.8:
            shape = rng.choice(objects).shape
        if not matching(objects, shape=shape, color=color):
            return Content(shape=shape, color=color)


def theme_of(split: str) -> Theme:
    """The looks of a split; only `test_other_style` has looks of its own."""
    return OTHER_THEME if split == OTHER_STYLE_SPLIT else TRAINING_THEME


def random_contents(rng: random.Random, count: int) -> list[Content]:
    """`count` objects; shapes and colours repeat often enough to make counting worth asking.

    Raises:
        InputError: `count` is not 1..`MAX_OBJECTS`.
    """
    if not 1 <= count <= MAX_OBJECTS:
        raise InputError(f"a scene of {count} objects is not possible", hint=f"use 1 to {MAX_OBJECTS}")
    shapes, colors = rng.choices(SHAPES, k=count), rng.choices(COLORS, k=count)
    for values in (shapes, colors):
        repeat = rng.random()
        if repeat < 0.12:
            values[:] = values[:1] * count
        elif repeat < 0.40:
            first, second = rng.choices(range(count), k=2)
            values[first] = values[second]
    return [Content(shape=shape, color=color) for shape, color in zip(shapes, colors, strict=True)]


def random_scene(rng: random.Random, contents: Sequence[Content], theme: Theme) -> Scene:
    """A scene of these objects with everything else left to chance."""
    places = _place(contents, rng, theme)
    looks = [_random_look(content.color, rng, theme) for content in contents]
    objects = [
        SceneObject(shape=content.shape, color=content.color, outline=outline, box=box, look=look)
        for content, (outline, box), look in zip(contents, places, looks, strict=True)
    ]
    visible = [color for look in looks for color in (look.main, blend(look.main, look.second, 0.5))]
    return Scene(
        objects=tuple(objects),
        background=random_background(rng, theme.fields, visible, contrast=_CONTRAST),
        finish=random_finish(rng),
    )


def random_finish(rng: random.Random) -> Finish:
    """Mostly none, sometimes a soft picture, sometimes a grainy one."""
    blur = rng.uniform(0.003, 0.008) if rng.random() < 0.15 else 0.0
    noise = rng.randint(3, 12) if rng.random() < 0.3 else 0
    return Finish(blur=blur, noise=noise, seed=rng.getrandbits(32))


def _random_look(color: str, rng: random.Random, theme: Theme) -> Look:
    style, main = rng.choice(theme.styles), shade_of(color, theme.hsv, rng)
    if style == "dark_outline":
        second = blend(main, BLACK, rng.uniform(0.6, 0.95)) if color != "black" else (110, 110, 110)
    elif style == "light_outline":
        second = blend(main, _WHITE, rng.uniform(0.7, 1.0))
    else:
        second = blend(main, _WHITE, rng.uniform(0.35, 0.6))
    return Look(
        style=style,
        main=main,
        second=second,
        thickness=rng.uniform(0.85, 1.35),
        period=rng.uniform(0.16, 0.28),
        angle=rng.uniform(0.0, 180.0),
        seed=rng.getrandbits(32),
    )


def _place(contents: Sequence[Content], rng: random.Random, theme: Theme) -> list[tuple[Points, Box]]:
    """Outlines that keep out of each other's way; sizes shrink until everything fits."""
    shapes = [_random_shape(content.shape, rng, theme) for content in contents]
    shrink = 1.0
    while True:
        boxes: list[Box] = []
        for outline in shapes:
            size = max(_SMALLEST, shrink * rng.uniform(_SMALLEST, _LARGEST))
            box = _find_room(float(outline[:, 0].max()) * size, float(outline[:, 1].max()) * size, boxes, rng)
            if box is None:
                break
            boxes.append(box)
        else:
            return [(_fit(outline, box), box) for outline, box in zip(shapes, boxes, strict=True)]
        shrink *= 0.95


def _random_shape(shape: str, rng: random.Random, theme: Theme) -> Points:
    wobble = rng.uniform(0.03, 0.07) if rng.random() < theme.wobble_share else 0.0
    return random_outline(shape, rng, wobble=wobble)


def _fit(outline: Points, box: Box) -> Points:
    side = max(box.x_max - box.x_min, box.y_max - box.y_min)
    middle = np.array([(box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2])
    fitted: Points = outline * side + middle
    return fitted


def _find_room(half_width: float, half_height: float, taken: list[Box], rng: random.Random) -> Box | None:
    for _ in range(16):
        x = _random_coordinate(rng, 0.5 - _EDGE - half_width)
        y = _random_coordinate(rng, 0.5 - _EDGE - half_height)
        box = Box(y_min=y - half_height, x_min=x - half_width, y_max=y + half_height, x_max=x + half_width)
        if not any(_in_the_way(box, other) for other in taken):
            return box
    return None


def _random_coordinate(rng: random.Random, reach: float) -> float:
    """A middle in 0.5 ± reach; the outer thirds get a second chance, or too little ends up there."""
    coordinate = 0.5 + rng.uniform(-reach, reach)
    inner = 0.5 - 1 / 3 + 0.05
    if abs(coordinate - 0.5) < inner < reach and rng.random() < 0.45:
        coordinate = 0.5 + rng.choice((-1, 1)) * rng.uniform(inner, reach)
    return coordinate


def _in_the_way(box: Box, other: Box) -> bool:
    """Whether two objects overlap too much or lie above each other."""
    if abs(box.x_min + box.x_max - other.x_min - other.x_max) / 2 < MIN_X_DISTANCE:
        return True
    width = min(box.x_max, other.x_max) - max(box.x_min, other.x_min)
    height = min(box.y_max, other.y_max) - max(box.y_min, other.y_min)
    return width > 0 and height > 0 and width * height > _MAX_OVERLAP * min(_area(box), _area(other))


def _area(box: Box) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
