"""Colours for the labels of a picture, told apart by readers with and without colour blindness."""

import colorsys
from collections.abc import Iterable

DARK, LIGHT = "#101418", "#ffffff"

# Okabe and Ito's seven colours, then those of a grid that are farthest from all before them in CIELAB as seen
# with full vision, protanopia and deuteranopia (Viénot, Brettel and Mollon 1999), whichever is the least.
PALETTE = (
    *("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#0000ff"),
    *("#0033bb", "#770000", "#553355", "#00ff99", "#7777ff", "#99ddbb", "#ff0055", "#003377"),
    *("#0055ff", "#0055bb", "#bbbb55", "#0000bb", "#99ddff", "#7799ff", "#bb0000", "#007733"),
)
_GOLDEN_TURN = 0.618034  # of the circle of hues: no two hues come close for long
_LIGHTNESS = (0.3, 0.55, 0.75)


def nth_colour(n: int) -> str:
    """The colour `#rrggbb` of the n-th label, from 0: the palette, then hues without end."""
    if n < len(PALETTE):
        return PALETTE[n]
    hue, lightness = n * _GOLDEN_TURN % 1, _LIGHTNESS[n % len(_LIGHTNESS)]
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, 0.8))


def label_colours(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each different label, in the order of their first appearance."""
    return {label: nth_colour(n) for n, label in enumerate(dict.fromkeys(labels))}


def ink_on(colour: str) -> str:
    """Dark letters on light colours, light ones on dark colours."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else LIGHT
