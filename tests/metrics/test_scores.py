from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.scores import Metric, Reference, Scores, answered, mean_score, part_scores, scored


def always(value: float):
    return lambda predictions, references: Scores(value=value, values=(value,) * len(predictions))


METRIC = Metric(name="a metric", source="here", paligemma=always(0.25), official=always(0.75))


def test_each_mode_has_its_rule() -> None:
    assert METRIC(["a"], [Reference()]).value == 0.25
    assert METRIC(["a"], [Reference()], "official").value == 0.75


def test_a_metric_with_one_rule_has_it_in_both_modes() -> None:
    metric = Metric(name="a metric", source="here", paligemma=always(0.25))
    assert metric(["a"], [Reference()], "official").value == 0.25


@pytest.mark.parametrize(
    ("predictions", "references", "mode", "message"),
    [
        (["a"], [], "paligemma", "1 predictions and 0 references"),
        ([], [], "paligemma", "nothing to score"),
        (["a"], [Reference()], "strict", "mode is 'strict'"),
    ],
)
def test_what_cannot_be_scored_is_told(
    predictions: list[str], references: list[Reference], mode: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        METRIC(predictions, references, mode)  # type: ignore[arg-type]


def test_the_mean_over_groups_weighs_each_group_alike() -> None:
    assert mean_score([1, 0, 0]) == pytest.approx(1 / 3)
    assert mean_score([1, 0, 0], ["a", "b", "b"]) == 0.5
    assert mean_score([1, 0, 0], ["a", "a", ""]) == 0.5


def test_nothing_that_counts_is_an_error() -> None:
    for values, groups in (([], []), ([1.0], [""])):
        with pytest.raises(InputError, match="counts"):
            mean_score(values, groups)


def test_examples_without_answers_are_left_out() -> None:
    yes, none = Reference(answers=("yes",)), Reference()
    assert answered([yes, yes]) == ()
    assert answered([yes, none]) == ("all", "")
    assert scored([1, 0], groups=answered([yes, none])).value == 1


def test_parts_tell_the_mean_of_each_kind_and_how_many() -> None:
    parts = part_scores([1, 0, 1], ["a", "a", ""])
    assert parts == {"a": 0.5, "a/questions": 2}


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["a", "b", "c"])), min_size=1), st.randoms())
def test_the_order_does_not_matter_to_the_last_bit(pairs: list[tuple[float, str]], rng: Random) -> None:
    other = list(pairs)
    rng.shuffle(other)
    assert mean_score(*zip(*pairs, strict=True)) == mean_score(*zip(*other, strict=True))
