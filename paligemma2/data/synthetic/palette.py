"""Eight colours that can be told apart, and how far two colours are from each other."""

import colorsys
import random
from collections.abc import Mapping
from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]
HSV: TypeAlias = tuple[float, float, float]

BLACK: RGB = (0, 0, 0)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black")

TRAINING_HSV: Mapping[str, HSV] = {
    "red": (0.995, 0.88, 0.85),
    "orange": (0.078, 0.93, 0.97),
    "yellow": (0.150, 0.88, 0.95),
    "green": (0.350, 0.75, 0.62),
    "blue": (0.610, 0.82, 0.80),
    "purple": (0.785, 0.64, 0.62),
    "brown": (0.065, 0.62, 0.42),
    "black": (0.500, 0.10, 0.08),
}
OTHER_HSV: Mapping[str, HSV] = {
    "red": (0.968, 0.78, 0.78),
    "orange": (0.092, 0.82, 0.93),
    "yellow": (0.166, 0.72, 0.91),
    "green": (0.385, 0.62, 0.70),
    "blue": (0.575, 0.70, 0.88),
    "purple": (0.750, 0.55, 0.76),
    "brown": (0.048, 0.50, 0.48),
    "black": (0.620, 0.25, 0.15),
}

_HUE_JITTER, _SATURATION_JITTER, _VALUE_JITTER = 0.014, 0.10, 0.08


def rgb_from_hsv(hue: float, saturation: float, value: float) -> RGB:
    """RGB 0..255 of a colour given in 0..1; the hue wraps, the rest is clipped."""
    red, green, blue = colorsys.hsv_to_rgb(
        hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    )
    return round(red * 255), round(green * 255), round(blue * 255)


def shade_of(color: str, table: Mapping[str, HSV], rng: random.Random) -> RGB:
    """One shade of a named colour, near its centre in `table`."""
    hue, saturation, value = table[color]
    # The brightness of black and brown is what separates them, so it moves less.
    value_jitter = _VALUE_JITTER * (0.5 if value < 0.5 else 1.0)
    return rgb_from_hsv(
        hue + rng.uniform(-_HUE_JITTER, _HUE_JITTER),
        saturation + rng.uniform(-_SATURATION_JITTER, _SATURATION_JITTER),
        value + rng.uniform(-value_jitter, value_jitter),
    )


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """`first` with a `share` (0..1) of `second` mixed in."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def color_distance(first: RGB, second: RGB) -> float:
    """How different two colours look: 0 (equal) to about 765 (black and white); the "redmean" formula."""
    mean_red = (first[0] + second[0]) / 2
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    weighted = (2 + mean_red / 256) * red**2 + 4 * green**2 + (2 + (255 - mean_red) / 256) * blue**2
    return float(weighted**0.5)
