import random

import numpy as np
import pytest

from paligemma2.data.synthetic.brushes import Canvas
from paligemma2.data.synthetic.other_style import OTHER_PAINTERS
from paligemma2.data.synthetic.scenes import OTHER_THEME, TRAINING_THEME, Look
from paligemma2.data.synthetic.seeds import SPLITS
from paligemma2.data.synthetic.shapes import SHAPES, inward_corners, random_outline
from paligemma2.data.synthetic.world import scene_of


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("style", OTHER_PAINTERS)
def test_every_painter_shows_a_good_part_of_every_shape_in_its_main_color(style, shape):
    look = Look(
        style=style, main=(200, 0, 0), second=(250, 150, 150), thickness=0.85, period=0.2, angle=10.0, seed=1
    )
    outline = random_outline(shape, random.Random(1))
    inward = inward_corners(shape, len(outline))
    canvas = Canvas(width=100, height=100, points=outline * 90 + 49.5, side=90.0, inward=inward, look=look)
    silhouette = np.asarray(canvas.silhouette) > 0
    layers = OTHER_PAINTERS[style](canvas)
    painted = np.maximum.reduce([np.asarray(mask) for mask, color in layers if color == look.main])
    assert painted[silhouette].mean() > 0.15 * 255
    assert not painted[~silhouette].any()


def test_the_painters_are_the_styles_of_the_other_theme_and_of_no_other():
    assert set(OTHER_PAINTERS) == set(OTHER_THEME.styles)
    assert not set(OTHER_PAINTERS) & set(TRAINING_THEME.styles)


@pytest.mark.parametrize("split", SPLITS)
def test_only_the_other_style_split_uses_its_painters(split):
    styles = {item.look.style for index in range(100) for item in scene_of(split, index).objects}
    assert styles == set((OTHER_THEME if split == "test_other_style" else TRAINING_THEME).styles)
