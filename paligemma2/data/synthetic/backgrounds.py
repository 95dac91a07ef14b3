"""Backgrounds: two close colours mixed by a soft field, chosen so that what lies on them stays visible."""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from paligemma2.data.synthetic.palette import RGB, color_distance, rgb_from_hsv
from paligemma2.data.synthetic.seeds import noise_generator

TRAINING_FIELDS = ("plain", "plain", "gradient", "noise", "stripes", "blobs")
OTHER_FIELDS = ("checker", "grid_paper", "smear", "dots")

_ATTEMPTS = 24
_FALLBACK: tuple[RGB, RGB] = ((246, 246, 246), (238, 238, 240))


@dataclass(frozen=True, kw_only=True)
class Background:
    """`first` and `second` colour mixed by the field `kind`; `seed` fixes the field's own choices."""

    kind: str
    first: RGB
    second: RGB
    seed: int


def _random_colors(rng: random.Random) -> tuple[RGB, RGB]:
    hue = rng.random()
    saturation, value = rng.choice(
        (
            (rng.uniform(0.0, 0.05), rng.uniform(0.85, 1.0)),
            (rng.uniform(0.08, 0.25), rng.uniform(0.85, 1.0)),
            (rng.uniform(0.0, 0.25), rng.uniform(0.5, 0.75)),
            (rng.uniform(0.0, 0.3), rng.uniform(0.05, 0.25)),
        )
    )
    first = rgb_from_hsv(hue, saturation, value)
    second_value = value + rng.choice((-1, 1)) * rng.uniform(0.04, 0.14)
    return first, rgb_from_hsv(hue + rng.uniform(-0.08, 0.08), saturation, second_value)


def random_background(
    rng: random.Random, kinds: tuple[str, ...], foreground: Iterable[RGB], *, contrast: float
) -> Background:
    """A background whose two colours are at least `contrast` (see `color_distance`) from every foreground."""
    foreground = tuple(foreground)
    kind, seed = rng.choice(kinds), rng.getrandbits(32)
    for _ in range(_ATTEMPTS):
        colors = _random_colors(rng)
        if all(color_distance(a, b) >= contrast for a in colors for b in foreground):
            return Background(kind=kind, first=colors[0], second=colors[1], seed=seed)
    return Background(kind=kind, first=_FALLBACK[0], second=_FALLBACK[1], seed=seed)


def _from_array(values: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]") -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values))


def _plain(size: int, seed: int) -> Image.Image:
    return Image.new("L", (size, size), 0)


def _enlarged_noise(size: int, seed: int, cells: int, resample: Image.Resampling) -> Image.Image:
    small = noise_generator(seed).integers(0, 256, (cells, cells), dtype=np.uint8)
    return _from_array(small).resize((size, size), resample)


def _gradient(size: int, seed: int) -> Image.Image:
    return _enlarged_noise(size, seed, 2, Image.Resampling.BILINEAR)


def _blobs(size: int, seed: int) -> Image.Image:
    return _enlarged_noise(size, seed, 6, Image.Resampling.BICUBIC)


def _noise(size: int, seed: int) -> Image.Image:
    return _from_array(noise_generator(seed).integers(0, 256, (size, size), dtype=np.uint8))


def _stripes(size: int, seed: int) -> Image.Image:
    rng = random.Random(seed)
    angle, waves = rng.uniform(0, math.pi), rng.uniform(3, 9)
    axis = np.arange(size) * (2 * math.pi * waves / size)
    phase = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)
    return _from_array((np.sin(phase, dtype=np.float32) * 127 + 128).astype(np.uint8))


def _checker(size: int, seed: int) -> Image.Image:
    cells = np.arange(size) * random.Random(seed).randint(5, 10) // size
    return _from_array((((cells[None, :] + cells[:, None]) % 2) * 255).astype(np.uint8))


def _grid_paper(size: int, seed: int) -> Image.Image:
    position = (np.arange(size) * (random.Random(seed).randint(7, 12) / size)) % 1.0
    line = position < 0.14
    return _from_array(((line[None, :] | line[:, None]) * 255).astype(np.uint8))


def _smear(size: int, seed: int) -> Image.Image:
    """Wiped chalk: noise that is long in one direction."""
    small = noise_generator(seed).integers(0, 256, (24, 3), dtype=np.uint8)
    return _from_array(small).resize((size, size), Image.Resampling.BICUBIC)


def _dots(size: int, seed: int) -> Image.Image:
    position = (np.arange(size) * (random.Random(seed).randint(8, 14) / size)) % 1.0 - 0.5
    near = position[None, :] ** 2 + position[:, None] ** 2 < 0.06
    return _from_array((near * 255).astype(np.uint8))


_Field: TypeAlias = Callable[[int, int], Image.Image]
_FIELDS: Mapping[str, _Field] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "blobs": _blobs,
    "checker": _checker,
    "grid_paper": _grid_paper,
    "smear": _smear,
    "dots": _dots,
}


def draw_background(background: Background, size: int) -> Image.Image:
    """The background as an RGB picture of size × size."""
    canvas = Image.new("RGB", (size, size), background.first)
    if background.kind != "plain":
        canvas.paste(background.second, (0, 0, size, size), _FIELDS[background.kind](size, background.seed))
    return canvas
