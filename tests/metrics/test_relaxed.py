import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.relaxed import RELAXED_ACCURACY
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


@pytest.mark.parametrize(
    ("prediction", "answer", "is_right"),
    [
        ("10.5", "10", True),
        ("10.51", "10", False),
        ("0.5", "50%", True),
        ("50", "50%", False),
        ("50%%", "0.5", True),  # every percent sign at the end goes
        ("1000", "1,000", False),
        ("1,000", "1,000", True),
        ("0.0", "0", False),  # nothing is near to zero
        ("0", "0", True),
        ("nan", "nan", False),
        ("inf", "inf", False),
        ("Yes", "yes", True),
        ("", "", True),
    ],
)
def test_numbers_may_be_off_by_five_percent(prediction: str, answer: str, is_right: bool) -> None:
    assert RELAXED_ACCURACY([prediction], [Reference(answers=(answer,))]).value == is_right


def test_the_exact_share_is_a_part() -> None:
    references = [Reference(answers=("10",)), Reference(answers=("Yes",))]
    scores = RELAXED_ACCURACY(["10.1", "yes"], references)
    assert (scores.value, scores.parts) == (1, {"exact": 0.5})


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(RELAXED_ACCURACY, pairs)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-0.0499, 0.0499))
def test_a_number_near_the_right_one_is_right(wanted: float, error: float) -> None:
    if abs(wanted) > 1e-300 and abs(wanted) < 1e300:
        answer = Reference(answers=(repr(wanted),))
        assert RELAXED_ACCURACY([repr(wanted * (1 + error))], [answer]).value == 1
