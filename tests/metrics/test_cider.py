import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.cider import SIGMA, cider

CAPTION = st.lists(st.sampled_from(["a", "dog", "cat", "on", "the"]), min_size=1, max_size=8).map(" ".join)
CORPUS = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=3)), min_size=1, max_size=6)


def scores(corpus: list[tuple[str, list[str]]]) -> tuple[float, ...]:
    return cider([prediction for prediction, _ in corpus], [captions for _, captions in corpus])


def test_one_word_of_two_images_by_hand() -> None:
    # Only unigrams: their cosine is 1, mean over four n is 1/4, times 10.
    assert cider(["a", "b"], [["a"], ["b"]]) == pytest.approx((2.5, 2.5))
    # "b" is given twice but counts up to once: 1·1 / (2 · 1); two references, one of them without it.
    assert cider(["a", "b b"], [["a"], ["b", "c"]])[1] == pytest.approx(
        10 / 4 / 2 * (1 / 2 * math.exp(-1 / (2 * SIGMA**2)))
    )


def test_a_corpus_of_one_image_has_nothing_rare() -> None:
    assert cider(["a dog"], [["a dog"]]) == (0,)


@given(CORPUS)
def test_scores_are_from_0_to_10(corpus: list[tuple[str, list[str]]]) -> None:
    assert all(0 <= value <= 10 + 1e-9 for value in scores(corpus))


@given(CORPUS, st.randoms(use_true_random=False))
def test_the_order_of_images_and_of_references_is_nothing(
    corpus: list[tuple[str, list[str]]], rng: random.Random
) -> None:
    order = rng.sample(range(len(corpus)), len(corpus))
    shuffled = [(corpus[i][0], rng.sample(corpus[i][1], len(corpus[i][1]))) for i in order]
    before = scores(corpus)
    assert scores(shuffled) == pytest.approx([before[i] for i in order])


@given(CORPUS, CAPTION, CAPTION)
def test_no_caption_is_better_than_one_that_equals_all_references(
    corpus: list[tuple[str, list[str]]], right: str, other: str
) -> None:
    best = scores([(right, [right, right]), *corpus])[0]
    assert scores([(other, [right, right]), *corpus])[0] <= best + 1e-9


def test_four_rare_words_that_are_right_have_10() -> None:
    assert scores([("a b c d", ["a b c d"]), ("x", ["x"])])[0] == pytest.approx(10)


def test_words_that_every_image_has_are_worth_nothing() -> None:
    assert scores([("the", ["the dog"]), ("cat", ["the cat"])])[0] == 0


def test_an_empty_caption_has_0_and_disturbs_none() -> None:
    assert scores([("", ["a b"]), ("c", ["c"])]) == pytest.approx((0, 2.5))
    assert scores([("a", [""]), ("c", ["c"])]) == pytest.approx((0, 2.5))
