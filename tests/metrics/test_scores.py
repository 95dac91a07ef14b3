import pytest

from paligemma2.errors import InputError
from paligemma2.metrics.scores import Metric, Reference, Scores


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
