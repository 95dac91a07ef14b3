import itertools
import random

import pytest

from paligemma2.data.synthetic.scenes import (
    MAX_OBJECTS,
    MIN_X_DISTANCE,
    OTHER_THEME,
    TRAINING_THEME,
    random_contents,
    random_scene,
    theme_of,
)
from paligemma2.data.synthetic.seeds import SPLITS
from paligemma2.errors import InputError


def _scenes(count, number=150, theme=TRAINING_THEME):
    rng = random.Random(count)
    return [random_scene(rng, random_contents(rng, count), theme) for _ in range(number)]


@pytest.mark.parametrize("count", range(1, MAX_OBJECTS + 1))
def test_objects_are_inside_large_enough_and_out_of_each_others_way(count):
    for scene in _scenes(count):
        assert len(scene.objects) == count
        for item in scene.objects:
            box = item.box
            assert min(box.x_min, box.y_min) > 0
            assert max(box.x_max, box.y_max) < 1
            assert 0.21 < max(box.x_max - box.x_min, box.y_max - box.y_min) < 0.51
        middles = [item.center[0] for item in scene.left_to_right]
        assert all(b - a >= MIN_X_DISTANCE - 1e-9 for a, b in itertools.pairwise(middles))


def test_a_box_is_the_extent_of_its_outline():
    for scene in _scenes(3, theme=OTHER_THEME):
        for item in scene.objects:
            (x_min, y_min), (x_max, y_max) = item.outline.min(axis=0), item.outline.max(axis=0)
            box = item.box
            assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((x_min, y_min, x_max, y_max))


def test_shapes_and_colors_repeat_often_enough_to_count():
    scenes = _scenes(3, number=400)
    for name in ("shape", "color"):
        repeats = sum(len({getattr(item, name) for item in scene.objects}) < 3 for scene in scenes)
        assert 0.3 < repeats / len(scenes) < 0.8


def test_only_the_other_style_split_has_the_other_theme():
    assert [split for split in SPLITS if theme_of(split) is OTHER_THEME] == ["test_other_style"]
    assert not set(TRAINING_THEME.styles) & set(OTHER_THEME.styles)


@pytest.mark.parametrize("count", [0, MAX_OBJECTS + 1])
def test_an_impossible_number_of_objects_is_refused(count):
    with pytest.raises(InputError):
        random_contents(random.Random(0), count)
