import colorsys
import itertools
import random

import pytest

from paligemma2.data.synthetic.palette import (
    COLORS,
    OTHER_HSV,
    TRAINING_HSV,
    blend,
    color_distance,
    rgb_from_hsv,
    shade_of,
)


@pytest.mark.parametrize("table", [TRAINING_HSV, OTHER_HSV])
def test_every_shade_is_nearest_to_the_centre_of_its_own_color(table):
    rng = random.Random(0)
    centres = {color: rgb_from_hsv(*table[color]) for color in COLORS}
    for color in COLORS:
        for _ in range(200):
            shade = shade_of(color, table, rng)
            assert min(COLORS, key=lambda name: color_distance(shade, centres[name])) == color


def test_the_other_style_has_other_centres_that_keep_their_names():
    for color in COLORS:
        ours, theirs = rgb_from_hsv(*TRAINING_HSV[color]), rgb_from_hsv(*OTHER_HSV[color])
        assert ours != theirs
        nearest = min(COLORS, key=lambda name: color_distance(theirs, rgb_from_hsv(*TRAINING_HSV[name])))
        assert nearest == color


def test_the_distance_of_two_colors_is_symmetric_and_zero_only_for_itself():
    for first, second in itertools.product([(0, 0, 0), (255, 0, 0), (10, 200, 30)], repeat=2):
        assert color_distance(first, second) == color_distance(second, first)
        assert (color_distance(first, second) == 0) == (first == second)


def test_rgb_agrees_with_the_standard_library():
    assert rgb_from_hsv(1.25, 1.5, 0.5) == tuple(round(v * 255) for v in colorsys.hsv_to_rgb(0.25, 1.0, 0.5))


def test_a_blend_goes_from_the_first_color_to_the_second():
    assert blend((0, 10, 20), (100, 110, 120), 0.0) == (0, 10, 20)
    assert blend((0, 10, 20), (100, 110, 120), 1.0) == (100, 110, 120)
