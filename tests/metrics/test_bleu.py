import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.bleu import bleu

CAPTION = st.lists(st.sampled_from(["a", "dog", "cat", "on"]), min_size=4, max_size=8).map(" ".join)
CAPTIONS = st.lists(CAPTION, min_size=1, max_size=3)


def test_an_image_by_hand() -> None:
    # 4 of 5 words, 2 of 4 bigrams, 1 of 3 trigrams, none of 2; as long as the reference of 5 words.
    scores = bleu(["the cat sat on mats"], [["the cat sat near the dog on a mat", "a cat on a mat"]])
    assert scores.corpus[0] == pytest.approx(4 / 5)
    assert scores.corpus[1] == pytest.approx(math.sqrt(4 / 5 * 2 / 4))
    assert scores.corpus[2] == pytest.approx((4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3))
    assert scores.corpus[3] == pytest.approx(0, abs=1e-3)
    assert scores.per_image == (scores.corpus,)


def test_a_word_counts_as_often_as_one_reference_has_it() -> None:
    assert bleu(["the the the the"], [["the cat the", "the dog", "a b c d"]]).corpus[0] == pytest.approx(
        2 / 4
    )


def test_short_captions_are_punished_by_the_closest_reference_and_the_shorter_of_two() -> None:
    assert bleu(["a b"], [["a b c", "a b c d e f"]]).corpus[0] == pytest.approx(math.exp(1 - 3 / 2))
    assert bleu(["a b c"], [["a b c d", "a b"]]).corpus[0] == pytest.approx(1)  # 4 and 2 are as close


def test_a_corpus_is_not_the_mean_of_its_images() -> None:
    scores = bleu(["a b c d", "x"], [["a b c d"], ["y"]])
    assert scores.corpus[0] == pytest.approx(4 / 5)
    assert [image[0] for image in scores.per_image] == pytest.approx([1, 0])


@given(CAPTION, CAPTIONS)
def test_scores_are_from_0_to_1(prediction: str, references: list[str]) -> None:
    assert all(0 <= value <= 1 for value in bleu([prediction], [references]).corpus)


@given(CAPTIONS)
def test_a_copied_reference_has_1(references: list[str]) -> None:
    assert bleu([references[0]], [references]).corpus == pytest.approx([1] * 4)


def test_an_empty_caption_has_0() -> None:
    assert bleu([""], [["a b"]]).corpus == pytest.approx([0] * 4)
    assert bleu([""], [[""]]).corpus == pytest.approx([0] * 4, abs=2e-3)
