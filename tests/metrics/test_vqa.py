from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.scores import Metric, Reference
from paligemma2.metrics.vqa import (
    AOKVQA_DIRECT_ANSWER,
    OKVQA_ACCURACY,
    TEXTVQA_ACCURACY,
    VIZWIZ_ACCURACY,
    VQAV2_ACCURACY,
    leave_one_out,
    vqa_accuracy,
)
from tests.metric_properties import PAIRS, TEXTS, check_pairs

METRICS = (VQAV2_ACCURACY, TEXTVQA_ACCURACY, VIZWIZ_ACCURACY, OKVQA_ACCURACY, AOKVQA_DIRECT_ANSWER)


def both(metric: Metric, prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    references = [Reference(answers=tuple(answers))]
    return metric([prediction], references).value, metric([prediction], references, "official").value


@pytest.mark.parametrize(("num_matches", "wanted"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_each_of_ten_people_is_left_out_once(num_matches: int, wanted: float) -> None:
    assert leave_one_out(num_matches, 10) == pytest.approx(wanted)
    answers = ["yes"] * num_matches + ["no"] * (10 - num_matches)
    assert both(VQAV2_ACCURACY, "yes", answers) == pytest.approx((wanted, wanted))


def test_texts_are_normalised_only_where_people_disagree() -> None:
    assert both(VQAV2_ACCURACY, "Yes", ["yes"] * 10) == (0, 0)
    assert both(VQAV2_ACCURACY, "Yes", ["yes"] * 9 + ["no"]) == (1, 1)
    assert both(VQAV2_ACCURACY, " yes\n", ["yes"] * 10) == (1, 1)  # but always stripped
    assert both(TEXTVQA_ACCURACY, "Yes", ["yes"] * 10) == (0, 1)  # M4C always normalises


def test_the_official_script_leaves_periods_after_the_first_32() -> None:
    answers = ["." * 40] * 5 + [""] * 5
    assert both(VQAV2_ACCURACY, "", answers) == (1, 1)
    assert both(VQAV2_ACCURACY, "." * 8, answers) == (1, 1)
    assert both(VQAV2_ACCURACY, "." * 40, ["." * 32] * 5 + ["x"] * 5) == (1, 0)


def test_vizwiz_normalises_only_the_prediction_in_its_script() -> None:
    assert both(VIZWIZ_ACCURACY, "Yes", ["yes"] * 4) == (0, 1)
    assert both(VIZWIZ_ACCURACY, "Yes", ["Yes"] * 4) == (1, 0)
    assert both(VIZWIZ_ACCURACY, "dont know", ["dont know"] * 4) == (1, 0)


def test_vizwiz_drops_empty_answers_for_the_card() -> None:
    assert both(VIZWIZ_ACCURACY, "", ["", "", "", "", "x"]) == (0, 1)


def test_okvqa_is_raw_for_the_card_and_normalised_in_the_script() -> None:
    assert both(OKVQA_ACCURACY, "Cat", ["cat"] * 4 + ["dog"]) == (0, 1)
    assert both(OKVQA_ACCURACY, "cat", ["cat", "dog"])[0] == pytest.approx(1 / 3)


def test_difficult_questions_of_aokvqa_are_left_out_officially() -> None:
    easy = Reference(answers=("a", "a", "a"), meta={"difficult_direct_answer": False})
    hard = Reference(answers=("b", "b", "b"), meta={"difficult_direct_answer": True})
    assert AOKVQA_DIRECT_ANSWER(["a", "x"], [easy, hard]).value == 0.5
    official = AOKVQA_DIRECT_ANSWER(["a", "x"], [easy, hard], "official")
    assert (official.value, official.groups) == (1, ("all", ""))
    with pytest.raises(InputError, match="counts"):
        AOKVQA_DIRECT_ANSWER(["b"], [hard], "official")


def test_parts_tell_the_types_of_answers_and_questions() -> None:
    meta = {"answer_type": "number", "question_type": "how many"}
    parts = vqa_accuracy(
        ["2", "x"], [Reference(answers=("two",) * 4, meta=meta), Reference(answers=("y",))]
    ).parts
    assert parts == {
        "answer type: number": 0,
        "answer type: number/questions": 1,
        "question type: how many": 0,
        "question type: how many/questions": 1,
    }


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    for metric in METRICS:
        check_pairs(metric, [("yes", ["yes"]), *pairs])  # one that counts, also where empty answers do not


@given(TEXTS.filter(bool), st.integers(4, 10))
def test_the_answer_of_four_people_is_right(text: str, people: int) -> None:
    for metric in METRICS:
        assert both(metric, text, [text] * people)[0] == 1
