import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.rsvqa import RSVQA_ACCURACY, rsvqa_accuracy
from paligemma2.metrics.scores import Reference, mean_score
from tests.metric_properties import TEXTS, check_scores

TYPES = ("comp", "presence", "rural_urban", "count", "area")


def of_types(*names: str) -> list[Reference]:
    return [Reference(answers=("yes",), meta={"type": name}) for name in names]


def test_types_weigh_alike_and_numbers_do_not_count() -> None:
    references = of_types("comp", "comp", "comp", "presence", "count", "area")
    scores = RSVQA_ACCURACY(["yes", "no", "no", "YES", "yes", "no"], references)
    assert scores.value == pytest.approx((1 / 3 + 1) / 2)
    assert scores.groups == ("comp", "comp", "comp", "presence", "", "")
    assert scores.value == mean_score(scores.values, scores.groups)
    assert scores.parts["acc_any"] == 0.5
    assert scores.parts["acc_avg"] == pytest.approx((1 / 3 + 1 + 1 + 0) / 4)


def test_the_third_type_counts_among_the_parts() -> None:
    scores = RSVQA_ACCURACY(["yes", "yes", "no"], of_types("comp", "presence", "rural_urban"))
    assert scores.value == 1  # the second of two numbers of one name, which big_vision keeps
    assert scores.parts["acc_avg_nonum_lr"] == pytest.approx(2 / 3)
    assert RSVQA_ACCURACY(["yes", "no"], of_types("comp", "rural_urban")).value == 0.5


def test_case_counts_where_asked() -> None:
    assert rsvqa_accuracy(["YES"], of_types("comp"), ignore_case=False).value == 0


def test_only_numbers_are_an_error() -> None:
    with pytest.raises(InputError, match="counts"):
        RSVQA_ACCURACY(["1"], of_types("count"))


@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(TYPES)), max_size=6))
def test_scores_are_fractions_in_any_order(rows: list[tuple[str, str, str]]) -> None:
    rows = [("yes", "yes", "comp"), *rows]
    references = [Reference(answers=(answer,), meta={"type": kind}) for _, answer, kind in rows]
    check_scores(RSVQA_ACCURACY, [text for text, _, _ in rows], references)
