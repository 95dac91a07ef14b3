import itertools

import numpy as np
import pytest

from paligemma2.drawing.colours import DARK, LIGHT, PALETTE, ink_on, label_colours, nth_colour

# Viénot, Brettel and Mollon 1999: linear RGB to cones, and what the cones of a dichromat respond.
CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
PROTANOPIA = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
DEUTERANOPIA = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    ratios = XYZ @ rgb / XYZ.sum(axis=1)
    x, y, z = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "cones", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["full vision", "protanopia", "deuteranopia"]
)
def test_the_palette_is_told_apart_with_and_without_colour_blindness(cones: np.ndarray) -> None:
    seen = np.linalg.inv(CONES) @ cones @ CONES
    places = [cielab((seen @ linear(colour)).clip(0, 1)) for colour in PALETTE]
    distances = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2)]
    assert min(distances) > 17  # 2.3 is just noticeable side by side


def test_two_hundred_labels_have_two_hundred_colours() -> None:
    colours = label_colours(f"label {i}" for i in range(200))
    assert len(set(colours.values())) == 200
    assert nth_colour(199) == colours["label 199"]


def test_a_label_keeps_its_first_colour() -> None:
    assert label_colours(["cat", "dog", "cat"]) == {"cat": PALETTE[0], "dog": PALETTE[1]}


@pytest.mark.parametrize("n", range(60))
def test_letters_can_be_read_on_every_colour(n: int) -> None:
    def luminance(colour: str) -> float:
        return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour))

    colour = nth_colour(n)
    assert ink_on(colour) in (DARK, LIGHT)
    light, dark = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 3  # WCAG 2.1, large text
