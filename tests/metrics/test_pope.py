import pytest
from hypothesis import given

from paligemma2.metrics.pope import POPE_ACCURACY
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs

YES, NO = Reference(answers=("yes",)), Reference(answers=("no",))


@pytest.mark.parametrize(
    ("prediction", "card_says", "script_says"),
    [
        ("Yes", "yes", "yes"),
        ("NO", "no", "yes"),  # the script knows "No", "no" and "not"
        ("No, there is not.", None, "no"),
        ("I do not know. yes", None, "no"),
        ("Yes. no", None, "yes"),  # the first sentence only
        ("There is no dog", None, "no"),
        ("no\n", None, "yes"),  # words are between spaces
        ("maybe", None, "yes"),
        ("", None, "yes"),
    ],
)
def test_what_counts_as_yes(prediction: str, card_says: str | None, script_says: str) -> None:
    for reference in (YES, NO):
        card, script = (
            POPE_ACCURACY([prediction], [reference]),
            POPE_ACCURACY([prediction], [reference], "official"),
        )
        assert card.value == (card_says == reference.answers[0])
        assert script.value == (script_says == reference.answers[0])


def test_parts_are_those_of_yes() -> None:
    scores = POPE_ACCURACY(["yes", "yes", "no", "yes", "maybe"], [YES, NO, YES, YES, NO])
    assert scores.value == 0.4
    assert scores.parts["precision"] == scores.parts["recall"] == pytest.approx(2 / 3)
    assert (scores.parts["yes_ratio"], scores.parts["valid"]) == (0.6, 0.8)


def test_where_the_script_divides_by_zero_the_part_is_zero() -> None:
    parts = POPE_ACCURACY(["no"], [NO], "official").parts
    assert (parts["precision"], parts["recall"], parts["f1"]) == (0, 0, 0)


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(POPE_ACCURACY, pairs)
