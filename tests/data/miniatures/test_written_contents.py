import random

import numpy as np

from paligemma2.data.miniatures import written_contents
from paligemma2.data.miniatures.content import SIDE
from paligemma2.data.synthetic.palette import TRAINING_HSV, rgb_from_hsv
from paligemma2.data.synthetic.words import is_held_out


def test_a_sign_shows_a_word_that_pre_training_never_showed():
    for number in range(1, 9):
        content = written_contents.read(random.Random(number), number)
        (asked,) = content.asked
        assert is_held_out(asked.answer)
        assert content.captions["en"] == (f"a sign that says {asked.answer}",)
        assert content.pictures[0].shape == (SIDE, SIDE, 3)


def test_the_bar_of_the_asked_colour_is_as_high_as_the_answer_says():
    for number in range(1, 9):
        content = written_contents.chart(random.Random(number), number)
        heights = {}
        for asked in content.asked:
            color = asked.question.removeprefix("what is the value of the ").removesuffix(" bar?")
            rgb = rgb_from_hsv(*TRAINING_HSV[color])
            rows = np.nonzero((content.pictures[0] == rgb).all(axis=2))[0]
            heights[int(asked.answer)] = rows.max() - rows.min()
        assert [heights[value] for value in sorted(heights)] == sorted(heights.values())
        assert len(content.asked) in (2, 3)
