import pytest
from hypothesis import given

from paligemma2.metrics.activitynet_qa import ACTIVITYNET_QA_ACCURACY, TYPES
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


def of_types(*numbers: int) -> list[Reference]:
    return [Reference(answers=("yes",), meta={"type": number}) for number in numbers]


def test_parts_are_the_types() -> None:
    scores = ACTIVITYNET_QA_ACCURACY(["yes", "no", "yes", "yes", "no"], of_types(0, 1, 2, 3, 3), "official")
    assert scores.value == 0.6
    assert scores.parts["motion"] == 1
    assert scores.parts["yes/no"] == scores.parts["free"] == 0.5
    assert scores.parts["yes/no/questions"] == 2
    assert len(TYPES) == 9


def test_free_questions_are_counted_as_the_script_does() -> None:
    # Types 3, 4 and 5 come first, so that the script divides by the questions of the types 0 and 6.
    scores = ACTIVITYNET_QA_ACCURACY(["yes"] * 5, of_types(3, 4, 5, 0, 6), "official")
    assert scores.parts["free"] == pytest.approx(4 / 2)


def test_the_card_has_no_parts() -> None:
    assert ACTIVITYNET_QA_ACCURACY(["yes"], of_types(0)).parts == {}


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(ACTIVITYNET_QA_ACCURACY, pairs)
