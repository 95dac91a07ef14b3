from hypothesis import given

from paligemma2.metrics.nlvr2 import NLVR2_ACCURACY
from paligemma2.metrics.scores import Reference
from tests.metric_properties import PAIRS, check_pairs


def labelled(*pairs: tuple[str, str]) -> list[Reference]:
    return [Reference(answers=(label,), meta={"identifier": name}) for name, label in pairs]


def test_case_matters_for_the_card_only() -> None:
    references = labelled(("test1-0-0-0", "True"))
    assert NLVR2_ACCURACY(["true"], references).value == 0
    assert NLVR2_ACCURACY(["true"], references, "official").value == 1
    assert NLVR2_ACCURACY([" True"], references, "official").value == 0


def test_consistency_counts_sentences_with_all_pairs_right() -> None:
    references = labelled(
        ("test1-0-0-0", "True"), ("test1-0-1-0", "False"), ("test1-0-1-1", "True"), ("test1-1-0-0", "True")
    )
    scores = NLVR2_ACCURACY(["True", "True", "True", "False"], references, "official")
    # Sentences: 0-0 (one of two right), 0-1 (right), 1-0 (wrong).
    assert (scores.value, scores.parts) == (0.5, {"consistency": 1 / 3})


def test_there_is_no_consistency_without_identifiers() -> None:
    assert NLVR2_ACCURACY(["a"], [Reference(answers=("a",))], "official").parts == {}


@given(PAIRS)
def test_scores_are_fractions_in_any_order(pairs: list[tuple[str, list[str]]]) -> None:
    check_pairs(NLVR2_ACCURACY, pairs)
