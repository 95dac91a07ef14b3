import random
import string
import zlib
from collections import Counter

import pytest

from paligemma2.data.synthetic.english import ENGLISH_WORDS
from paligemma2.data.synthetic.seeds import SPLITS
from paligemma2.data.synthetic.words import is_held_out, random_word


@pytest.mark.parametrize("split", SPLITS)
def test_words_are_three_to_six_capitals_of_the_right_side_of_the_split(split):
    rng = random.Random(split)
    for _ in range(1000):
        word = random_word(rng, split)
        assert 3 <= len(word) <= 6
        assert set(word) <= set(string.ascii_uppercase)
        assert (zlib.crc32(word.encode()) % 10 == 0) == (split != "train")


def test_every_letter_is_common_in_training():
    rng = random.Random(1)
    letters = Counter("".join(random_word(rng, "train") for _ in range(3000)))
    assert min(letters[letter] for letter in string.ascii_uppercase) > 0.01 * letters.total()


def test_about_three_in_ten_words_are_english():
    rng = random.Random(2)
    english = set(ENGLISH_WORDS)
    share = sum(random_word(rng, "train") in english for _ in range(2000)) / 2000
    assert 0.25 < share < 0.4


def test_about_one_english_word_in_ten_is_held_out():
    assert 0.06 < sum(map(is_held_out, ENGLISH_WORDS)) / len(ENGLISH_WORDS) < 0.14
