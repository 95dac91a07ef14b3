import random

import numpy as np
import pytest

from paligemma2.data.synthetic.shapes import SHAPES, corners, inward_corners, random_outline


@pytest.mark.parametrize("wobble", [0.0, 0.06])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_is_centred_and_one_long(shape, wobble):
    rng = random.Random(1)
    for _ in range(20):
        outline = random_outline(shape, rng, wobble=wobble)
        low, high = outline.min(axis=0), outline.max(axis=0)
        assert outline.ndim == 2
        assert (high - low).max() == pytest.approx(1.0)
        assert low + high == pytest.approx([0.0, 0.0], abs=1e-9)


def test_drawing_a_shape_leaves_the_shared_corners_alone():
    before = corners("star").copy()
    random_outline("star", random.Random(2))
    np.testing.assert_array_equal(corners("star"), before)


@pytest.mark.parametrize(("shape", "number"), [("star", 5), ("cross", 4), ("square", 0), ("diamond", 0)])
def test_valleys_are_found_in_the_plain_and_in_the_fine_outline(shape, number):
    assert len(inward_corners(shape, len(corners(shape)))) == number
    fine = random_outline(shape, random.Random(3), wobble=0.01)
    assert all(place < len(fine) for place in inward_corners(shape, len(fine)))


def test_no_square_looks_like_a_diamond():
    rng = random.Random(4)
    for _ in range(200):
        square, diamond = random_outline("square", rng), random_outline("diamond", rng)
        # Share of the tight box that the shape fills: near 1 for a square, a half for a diamond.
        assert _fill(square) > 0.66 > 0.6 > _fill(diamond)


def _fill(outline: np.ndarray) -> float:
    x, y = outline.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(area / np.ptp(outline, axis=0).prod())
