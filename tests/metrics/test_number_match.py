import pytest
from hypothesis import given

from paligemma2.metrics.number_match import NUMBER_MATCH
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


@pytest.mark.parametrize(
    ("prediction", "answer", "is_right"),
    [
        ("3", "3", True),
        ("Three", "3", True),
        ("None", "0", True),
        ("twenty", "20", True),
        (" 3", "3", False),
        ("3.0", "3", False),
        ("twenty one", "21", False),
        ("3", "three", True),
    ],
)
def test_number_words_are_digits(prediction: str, answer: str, is_right: bool) -> None:
    assert NUMBER_MATCH([prediction], [Reference(answers=(answer,))]).value == is_right


def test_parts_tell_simple_complex_and_each_count() -> None:
    references = [
        Reference(answers=("2",), meta={"issimple": 1}),
        Reference(answers=("2",), meta={"issimple": False}),
        Reference(answers=("16",), meta={"issimple": -1}),
        Reference(meta={"issimple": 1}),
    ]
    scores = NUMBER_MATCH(["two", "3", "16", "2"], references)
    assert scores.value == pytest.approx(2 / 3)
    accuracies = {name: value for name, value in scores.parts.items() if "/" not in name}
    assert accuracies == {"simple": 1, "complex": 0, "count_2": 0.5, "count_16": 1}


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(NUMBER_MATCH, pairs)
