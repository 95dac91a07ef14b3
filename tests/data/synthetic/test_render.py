import dataclasses
import random

import numpy as np
import pytest

from paligemma2.data.synthetic.backgrounds import Background
from paligemma2.data.synthetic.render import draw_object_numbers, draw_scene
from paligemma2.data.synthetic.scenes import (
    OTHER_THEME,
    TRAINING_THEME,
    Finish,
    random_contents,
    random_scene,
)

_PLAIN = Finish(blur=0.0, noise=0, seed=0)
_STYLES = sorted({*TRAINING_THEME.styles, *OTHER_THEME.styles})


def _single(style, seed):
    """A scene of one object in this style on a background that no paint has."""
    theme = TRAINING_THEME if style in TRAINING_THEME.styles else OTHER_THEME
    rng = random.Random(seed)
    theme = dataclasses.replace(theme, styles=(style,))
    scene = random_scene(rng, random_contents(rng, 1), theme)
    background = Background(kind="plain", first=(0, 255, 255), second=(0, 255, 255), seed=0)
    return dataclasses.replace(scene, background=background, finish=_PLAIN)


@pytest.mark.parametrize("style", _STYLES)
def test_the_box_is_the_extent_of_the_painted_pixels(style):
    size = 112
    for seed in range(25):
        scene = _single(style, seed)
        painted = (draw_scene(scene, size) != (0, 255, 255)).any(axis=2)
        rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
        box = scene.objects[0].box
        seen = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / size
        expected = np.array([box.y_min, box.x_min, box.y_max, box.x_max])
        # Beads and chalk may miss the very tip of a shape; nothing may paint outside of the box.
        slack = 0.05 if style in ("dotted", "chalk", "cross_hatched") else 0.02
        assert np.abs(seen - expected).max() < slack
        assert (seen[:2] > expected[:2] - 0.011).all()
        assert (seen[2:] < expected[2:] + 0.011).all()


def _grown(mask):
    """The mask and the pixels next to it, where a border pixel may be painted in part."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    neighbours = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.logical_or.reduce(neighbours)


@pytest.mark.parametrize("style", _STYLES)
def test_the_numbered_area_is_where_the_paint_is(style):
    size = 112
    for seed in range(25):
        scene = _single(style, seed)
        painted = (draw_scene(scene, size) != (0, 255, 255)).any(axis=2)
        inside = draw_object_numbers(scene, size) == 1
        assert not (painted & ~_grown(inside)).any()
        assert (painted & inside).sum() >= 0.2 * inside.sum()


def test_a_later_object_lies_on_top():
    rng = random.Random(5)
    scene = random_scene(rng, random_contents(rng, 1), TRAINING_THEME)
    twice = dataclasses.replace(scene, objects=scene.objects * 2)
    assert set(np.unique(draw_object_numbers(twice, 84))) == {0, 2}


def test_noise_stays_within_its_strength_and_blur_keeps_the_size():
    rng = random.Random(6)
    scene = dataclasses.replace(random_scene(rng, random_contents(rng, 2), TRAINING_THEME), finish=_PLAIN)
    clean = draw_scene(scene, 84).astype(int)
    grainy = draw_scene(dataclasses.replace(scene, finish=Finish(blur=0.0, noise=7, seed=1)), 84).astype(int)
    assert 0 < np.abs(clean - grainy).max() <= 7
    blurred = draw_scene(dataclasses.replace(scene, finish=Finish(blur=0.01, noise=0, seed=1)), 84)
    assert blurred.shape == clean.shape
    assert (blurred != clean).any()


def test_a_finished_picture_can_be_written_to():
    rng = random.Random(7)
    scene = random_scene(rng, random_contents(rng, 1), TRAINING_THEME)
    assert draw_scene(dataclasses.replace(scene, finish=_PLAIN), 84).flags.writeable
