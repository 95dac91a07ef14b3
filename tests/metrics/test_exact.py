import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.exact import AOKVQA_MULTIPLE_CHOICE, EXACT_MATCH, EXACT_MATCH_LOWER
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, TEXTS, check_pairs

METRICS = (EXACT_MATCH, EXACT_MATCH_LOWER, AOKVQA_MULTIPLE_CHOICE)


@pytest.mark.parametrize(
    ("prediction", "answer", "exact", "lower"),
    [
        ("yes", "yes", 1, 1),
        ("Yes", "yes", 0, 1),
        ("yes ", "yes", 0, 0),
        ("i\u0307", "İ", 0, 1),  # as `str.lower` has it
        ("ss", "ß", 0, 0),
        ("", "", 1, 1),
    ],
)
def test_letters_must_be_equal(prediction: str, answer: str, exact: float, lower: float) -> None:
    references = [Reference(answers=(answer,))]
    assert EXACT_MATCH([prediction], references).value == exact
    assert EXACT_MATCH_LOWER([prediction], references).value == lower


def test_any_of_several_answers_is_right() -> None:
    assert EXACT_MATCH(["b"], [Reference(answers=("a", "b"))]).value == 1


def test_an_example_without_answers_counts_nowhere() -> None:
    scores = EXACT_MATCH(["a", ""], [Reference(answers=("a",)), Reference()])
    assert (scores.value, scores.values, scores.groups) == (1, (1, 0), ("all", ""))
    with pytest.raises(InputError, match="counts"):
        EXACT_MATCH(["a"], [Reference()])


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    for metric in METRICS:
        check_pairs(metric, pairs)


@given(st.lists(TEXTS, min_size=1))
def test_who_knows_all_answers_has_the_maximum(texts: list[str]) -> None:
    for metric in METRICS:
        assert metric(texts, [Reference(answers=(text,)) for text in texts]).value == 1
