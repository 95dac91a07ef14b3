import random

import numpy as np
import pytest

from paligemma2.data.synthetic.brushes import Canvas
from paligemma2.data.synthetic.scenes import Look
from paligemma2.data.synthetic.shapes import SHAPES, inward_corners, random_outline

_LOOK = Look(style="filled", main=(1, 2, 3), second=(4, 5, 6), thickness=1.0, period=0.2, angle=30.0, seed=9)


def _canvas(shape, seed=0):
    outline = random_outline(shape, random.Random(seed))
    inward = inward_corners(shape, len(outline))
    return Canvas(width=100, height=100, points=outline * 90 + 49.5, side=90.0, inward=inward, look=_LOOK)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_brush_stays_inside_the_silhouette(shape):
    canvas = _canvas(shape)
    outside = np.asarray(canvas.silhouette) == 0
    shifted = canvas.stroke(0.05, inset=0.8, shift=(0.1, 0.1))
    for mask in (canvas.stroke(0.1), shifted, canvas.stripes(20.0, share=0.5), canvas.speckle(6)):
        painted = np.asarray(mask)
        assert painted.any()
        assert not painted[outside].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stroke_has_no_gap_along_the_outline(shape):
    canvas = _canvas(shape)
    stroke = np.asarray(canvas.stroke(0.06))
    following = np.roll(canvas.points, -1, axis=0)
    for share in (0.0, 0.25, 0.5, 0.75):
        on_edge = canvas.points * (1 - share) + following * share
        for x, y in (on_edge + (49.5 - on_edge) * 0.04).round().astype(int):
            assert stroke[y - 1 : y + 2, x - 1 : x + 2].any()


def test_a_thicker_stroke_paints_more():
    canvas = _canvas("star")
    assert np.asarray(canvas.stroke(0.12)).sum() > np.asarray(canvas.stroke(0.05)).sum()


def test_stripes_cover_about_their_share():
    canvas = _canvas("square")
    share = np.asarray(canvas.stripes(45.0, share=0.5)).mean() / np.asarray(canvas.silhouette).mean()
    assert 0.4 < share < 0.65
