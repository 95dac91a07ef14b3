import random

import numpy as np
import pytest

from paligemma2.data.synthetic.backgrounds import (
    OTHER_FIELDS,
    TRAINING_FIELDS,
    Background,
    draw_background,
    random_background,
)
from paligemma2.data.synthetic.palette import COLORS, TRAINING_HSV, color_distance, shade_of


@pytest.mark.parametrize("kind", sorted({*TRAINING_FIELDS, *OTHER_FIELDS}))
@pytest.mark.parametrize("size", [84, 112])
def test_a_field_mixes_only_its_two_colors(kind, size):
    background = Background(kind=kind, first=(200, 10, 50), second=(230, 40, 90), seed=3)
    pixels = np.asarray(draw_background(background, size))
    assert pixels.shape == (size, size, 3)
    assert (pixels >= (200, 10, 50)).all()
    assert (pixels <= (230, 40, 90)).all()
    assert (len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1) == (kind != "plain")


def test_backgrounds_keep_their_distance_from_every_foreground():
    rng = random.Random(0)
    for _ in range(300):
        colors = [shade_of(color, TRAINING_HSV, rng) for color in rng.sample(COLORS, 3)]
        background = random_background(rng, TRAINING_FIELDS, colors, contrast=140.0)
        for shade in (background.first, background.second):
            assert min(color_distance(shade, color) for color in colors) >= 140.0


def test_the_two_styles_share_no_field():
    assert not set(TRAINING_FIELDS) & set(OTHER_FIELDS)
