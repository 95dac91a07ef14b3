import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.answers import exact_match


def test_the_value_is_the_share_of_equal_answers() -> None:
    scores = exact_match(["2", "red", "yes", "a cat"], ["2", "blue", "yes", "cat"])
    assert scores.per_example == (1.0, 0.0, 1.0, 0.0)
    assert scores.value == 0.5


def test_case_and_spaces_count_unless_case_is_ignored() -> None:
    assert exact_match(["Yes", "yes "], ["yes", "yes"]).value == 0.0
    assert exact_match(["Yes", "yes "], ["yes", "yes"], ignore_case=True).per_example == (1.0, 0.0)


@pytest.mark.parametrize(("predictions", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_unequal_or_no_examples_are_refused(predictions: list[str], references: list[str]) -> None:
    with pytest.raises(InputError, match=f"{len(predictions)} predictions"):
        exact_match(predictions, references)


@given(st.lists(st.text(), min_size=1))
def test_every_answer_matches_itself(texts: list[str]) -> None:
    assert exact_match(texts, texts).value == 1.0


def test_scores_equal_those_of_big_vision(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "metrics" / "exact_match.json").read_text("utf-8"))["cases"]
    assert cases
    for case in cases:
        scores = exact_match([case["prediction"]], [case["answer"]], ignore_case=case["to_lower"])
        assert scores.value == case["expected_acc"], case
