import pytest
from hypothesis import given

from paligemma2.metrics.scienceqa import FAILED, SCIENCEQA_ACCURACY, parse_letter
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is B.", "b"),
        ("THE ANSWER IS c. BECAUSE: x", "c"),
        ("The answer is B", FAILED),
        (" The answer is B.", FAILED),
        ("The answer is (B).", FAILED),
        ("The answer is 1.", FAILED),
        ("The answer is É.", FAILED),
        ("", FAILED),
    ],
)
def test_the_letter_stands_at_the_beginning(text: str, letter: str) -> None:
    assert parse_letter(text) == letter


def test_failures_are_wrong_and_counted() -> None:
    references = [Reference(answers=("The answer is A.",))] * 4
    scores = SCIENCEQA_ACCURACY(["the answer is a.", "The answer is B.", "A", ""], references)
    assert (scores.value, scores.parts) == (0.25, {"parse_failures": 0.5})


def test_two_failures_are_equal_as_in_big_vision() -> None:
    assert SCIENCEQA_ACCURACY(["x"], [Reference(answers=("y",))]).value == 1


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(SCIENCEQA_ACCURACY, pairs)
