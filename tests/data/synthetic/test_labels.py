import random

import numpy as np
import pytest

from paligemma2.data.synthetic.labels import patch_numbers, scene_labels, word_labels
from paligemma2.data.synthetic.lettering import random_lettering
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.render import draw_object_numbers
from paligemma2.data.synthetic.scenes import TRAINING_THEME, random_contents, random_scene
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.errors import InputError


def test_a_patch_belongs_to_the_number_that_fills_most_of_it():
    numbers = np.zeros((8, 8), dtype=np.uint8)
    numbers[:4, :4] = 1
    numbers[:4, :3] = 2
    numbers[4, 4] = 3  # one pixel of sixteen is too little
    assert patch_numbers(numbers, 4).tolist() == [[2, 0], [0, 0]]
    assert patch_numbers(np.zeros((8, 8), dtype=np.uint8), 4).tolist() == [[0, 0], [0, 0]]


def test_a_patch_size_that_does_not_fit_is_refused():
    with pytest.raises(InputError):
        patch_numbers(np.zeros((8, 8), dtype=np.uint8), 3)


@pytest.mark.parametrize(("size", "grid"), [(84, 6), (112, 8)])
def test_labels_name_the_object_that_is_seen_in_the_patch(size, grid):
    rng = random.Random(0)
    for _ in range(100):
        scene = random_scene(rng, random_contents(rng, 3), TRAINING_THEME)
        labels = scene_labels(scene, size, 14)
        numbers = draw_object_numbers(scene, size)
        assert labels.shape.shape == labels.color.shape == (grid, grid)
        for row, column in np.ndindex(grid, grid):
            patch = numbers[row * 14 : row * 14 + 14, column * 14 : column * 14 + 14]
            areas = np.bincount(patch.ravel(), minlength=4)[1:]
            if areas.max() < 0.1 * 14 * 14:
                assert labels.shape[row, column] == labels.color[row, column] == 0
                assert not labels.box[row, column].any()
                continue
            item = scene.objects[int(areas.argmax())]
            assert SHAPES[labels.shape[row, column] - 1] == item.shape
            assert COLORS[labels.color[row, column] - 1] == item.color
            box = item.box
            expected = (box.y_min, box.x_min, box.y_max, box.x_max)
            assert labels.box[row, column] == pytest.approx(expected, abs=1e-6)


def test_every_object_is_in_the_labels():
    rng = random.Random(1)
    for _ in range(100):
        scene = random_scene(rng, random_contents(rng, 3), TRAINING_THEME)
        seen = np.unique(patch_numbers(draw_object_numbers(scene, 112), 14))
        assert set(seen) - {0} == {1, 2, 3}


def test_letters_are_labelled_in_reading_order():
    rng = random.Random(2)
    missing = letters = 0
    for _ in range(100):
        lettering = random_lettering(rng, "train")
        labels = word_labels(lettering, 112, 14)
        assert not labels.shape.any()
        for place, letter in enumerate(lettering.word, start=1):
            found = labels.letter[labels.order == place]
            assert (found == ord(letter) - 64).all()
            letters, missing = letters + 1, missing + (found.size == 0)
        assert (labels.order > 0).sum() == (labels.letter > 0).sum() == labels.box.any(axis=2).sum()
    assert missing < 0.03 * letters
