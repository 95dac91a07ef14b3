import dataclasses
import random

import numpy as np
import pytest

from paligemma2.data.synthetic.backgrounds import Background
from paligemma2.data.synthetic.lettering import (
    draw_letter_numbers,
    draw_lettering,
    letter_box,
    random_lettering,
)
from paligemma2.data.synthetic.palette import color_distance
from paligemma2.data.synthetic.scenes import Finish
from paligemma2.data.synthetic.seeds import SPLITS


def _letterings(split, number):
    rng = random.Random(split)
    return [random_lettering(rng, split) for _ in range(number)]


@pytest.mark.parametrize("split", SPLITS)
def test_a_word_fits_the_picture_and_can_be_read(split):
    for lettering in _letterings(split, 100):
        boxes = [letter_box(lettering, place) for place in range(len(lettering.word))]
        assert min(min(box.x_min, box.y_min) for box in boxes) > 0
        assert max(max(box.x_max, box.y_max) for box in boxes) < 1
        # A word of three letters may be held back by its height instead of its width.
        assert 0.3 < boxes[-1].x_max - boxes[0].x_min < 0.985
        background, board = lettering.background, lettering.board
        behind = (board.fill,) if board else (background.first, background.second)
        assert min(color_distance(lettering.color, c) for c in behind) > 180


@pytest.mark.parametrize("split", ["train", "test_other_style"])
def test_the_ink_lies_in_the_boxes_of_the_letters(split):
    size = 112
    for lettering in _letterings(split, 60):
        plain = dataclasses.replace(
            lettering,
            color=(0, 0, 0),
            background=Background(kind="plain", first=(255, 255, 255), second=(255, 255, 255), seed=0),
            finish=Finish(blur=0.0, noise=0, seed=0),
            board=None,
        )
        ink = draw_lettering(plain, size)[..., 0] < 128
        numbers = draw_letter_numbers(plain, size)
        assert (ink & (numbers == 0)).sum() < 0.12 * ink.sum()
        for number in range(1, len(plain.word) + 1):
            assert (ink & (numbers == number)).any()


def test_letters_are_numbered_from_left_to_right():
    for lettering in _letterings("train", 50):
        numbers = draw_letter_numbers(lettering, 112)
        middles = [np.argwhere(numbers == n)[:, 1].mean() for n in range(1, len(lettering.word) + 1)]
        assert middles == sorted(middles)


def test_some_words_stand_on_a_board_that_holds_them():
    letterings = _letterings("train", 200)
    boards = [lettering for lettering in letterings if lettering.board]
    assert 0.15 < len(boards) / len(letterings) < 0.35
    white, black = (255, 255, 255), (0, 0, 0)
    for lettering in boards[:20]:
        plain = dataclasses.replace(
            lettering,
            color=white,
            background=Background(kind="plain", first=white, second=white, seed=0),
            board=dataclasses.replace(lettering.board, fill=black, edge=black),
            finish=Finish(blur=0.0, noise=0, seed=0),
        )
        picture = draw_lettering(plain, 112)
        assert (picture[draw_letter_numbers(plain, 112) > 0] < 128).any()
        # The board ends before the picture does, above or below the word, and its ink is white inside of it.
        assert (picture[[0, -1]] > 128).any()
        bare = draw_lettering(dataclasses.replace(plain, color=black), 112)
        assert (bare[draw_letter_numbers(plain, 112) > 0] < 128).mean() > 0.97
