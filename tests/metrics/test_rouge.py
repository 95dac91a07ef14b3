import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.rouge import BETA, longest_common_subsequence, rouge_l

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def by_table(a: list[str], b: list[str]) -> int:
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, one in enumerate(a, start=1):
        for j, other in enumerate(b, start=1):
            rows[i][j] = rows[i - 1][j - 1] + 1 if one == other else max(rows[i - 1][j], rows[i][j - 1])
    return rows[-1][-1]


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(a: list[str], b: list[str]) -> None:
    assert longest_common_subsequence(a, b) == by_table(a, b)


def test_an_image_by_hand() -> None:
    # "the on mat" is 3 of 4 words and 3 of 6 of the reference.
    precision, recall = 3 / 4, 3 / 6
    expected = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    assert rouge_l(["the dog on mat"], [["the cat sat on a mat"]]) == pytest.approx((expected,))


def test_precision_and_recall_may_be_of_two_references() -> None:
    assert rouge_l(["a b c d"], [["a", "a b c d e f g h"]]) == pytest.approx((1,))


def test_the_extremes() -> None:
    assert rouge_l(["a b", "x", "", ""], [["a b"], ["y"], ["y"], [""]]) == (1, 0, 0, 1)


@given(WORDS.map(" ".join), st.lists(WORDS.map(" ".join), min_size=1, max_size=3))
def test_scores_are_from_0_to_1_and_a_copy_has_1(prediction: str, references: list[str]) -> None:
    value, copied = rouge_l([prediction, references[0]], [references, references])
    assert 0 <= value <= 1 + 1e-9
    assert copied == pytest.approx(1)
