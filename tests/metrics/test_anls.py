import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.anls import ANLS, anls, anls_m4c, anls_rrc, edit_distance
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, TEXTS, check_pairs


def by_table(a: str, b: str) -> int:
    """The textbook's table, row by row."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        above, row = row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_the_distance_is_that_of_the_table(a: str, b: str) -> None:
    assert edit_distance(a, b) == by_table(a, b) == edit_distance(b, a)


def test_the_distance_of_long_texts() -> None:
    a, b = "kitten" * 40, "sitting" * 41
    assert edit_distance(a, b) == by_table(a, b)


@pytest.mark.parametrize(
    ("prediction", "answer", "big_vision", "rrc", "m4c"),
    [
        ("43", "42", 0, 0.5, 0.5),  # exactly one half
        ("hello", " Hello ", 5 / 7, 1, 1),
        ("a  b\tc", "a b c", 4 / 6, 1, 4 / 6),
        ("", "", 1, 1, 1),
        ("x", "", 0, 0, 0),
        (" ", "", 0, 1, 1),
        ("no", "yes", 0, 0, 0),
    ],
)
def test_the_implementations_differ(
    prediction: str, answer: str, big_vision: float, rrc: float, m4c: float
) -> None:
    references = [Reference(answers=(answer,))]
    assert ANLS([prediction], references).value == pytest.approx(big_vision)
    assert ANLS([prediction], references, "official").value == pytest.approx(rrc)
    assert anls_rrc([prediction], references).value == pytest.approx(rrc)
    assert anls_m4c([prediction], references).value == pytest.approx(m4c)


def test_case_counts_only_where_asked() -> None:
    references = [Reference(answers=("Hello",))]
    assert anls(["hello"], references).value == pytest.approx(0.8)
    assert anls(["hello"], references, ignore_case=True).value == 1


def test_the_nearest_answer_counts() -> None:
    assert ANLS(["42"], [Reference(answers=("17", "42"))]).value == 1


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(ANLS, pairs)


@given(st.lists(TEXTS, min_size=1))
def test_who_knows_all_answers_has_the_maximum(texts: list[str]) -> None:
    assert ANLS(texts, [Reference(answers=(text,)) for text in texts]).value == 1
