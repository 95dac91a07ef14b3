import pytest
from hypothesis import given

from paligemma2.metrics.gqa import GQA_ACCURACY
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


def question(
    answer: str, *, structural: str = "query", group: str | None = "color", balanced: bool = True
) -> Reference:
    meta = {
        "question": "What color is it?",
        "isBalanced": balanced,
        "types": {"structural": structural, "semantic": "attr", "detailed": "x"},
        "semantic": [
            {"operation": "select", "argument": "car (1)"},
            {"operation": "filter color", "argument": "red"},
            {"operation": "query", "argument": "name"},
        ],
        "groups": {"global": group, "local": "x"},
    }
    return Reference(answers=(answer,), meta=meta)


def test_only_balanced_questions_count_officially() -> None:
    references = [question("red"), question("blue", balanced=False)]
    assert GQA_ACCURACY(["red", "green"], references).value == 0.5
    official = GQA_ACCURACY(["red", "green"], references, "official")
    assert (official.value, official.groups) == (1, ("all", ""))


def test_parts_are_those_that_the_script_prints() -> None:
    references = [question("red"), question("yes", structural="verify"), question("no", structural="verify")]
    parts = GQA_ACCURACY(["red", "yes", "yes"], references, "official").parts
    assert (parts["open"], parts["binary"]) == (1, 0.5)
    assert parts["structural: verify/questions"] == 2
    assert parts["semantic: attr"] == parts["words: 4"] == parts["steps: 2"] == pytest.approx(2 / 3)


def test_the_distribution_is_chi_squared_over_answers() -> None:
    references = [question("red"), question("red"), question("blue"), question("x", group=None)]
    parts = GQA_ACCURACY(["red", "blue", "blue", "y"], references, "official").parts
    # "red": right 2, predicted 1; "blue": right 1, predicted 2.
    assert parts["distribution"] == pytest.approx(((1 - 2) ** 2 / 2 + (2 - 1) ** 2 / 1) / 100)


def test_without_the_questions_there_is_only_the_accuracy() -> None:
    scores = GQA_ACCURACY(["a", "b"], [Reference(answers=("a",))] * 2, "official")
    assert (scores.value, scores.parts) == (0.5, {"distribution": 0})


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(GQA_ACCURACY, pairs)
