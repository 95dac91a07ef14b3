from dataclasses import replace

import pytest

from paligemma2.errors import DataError
from paligemma2.evaluation.predictions import Prediction
from paligemma2.evaluation.score import score_row
from paligemma2.evaluation.task import Row
from paligemma2.metrics.scores import Metric, Scores
from tests.small_task import EQUAL


def lines(*texts, answer="red"):
    return [
        Prediction(id=str(i), index=i, prompt="?", prediction=text, answers=(answer,), unit=str(i))
        for i, text in enumerate(texts)
    ]


def row(*splits, metric=EQUAL):
    return Row(title="Row", splits=splits, metric=metric)


def test_a_row_has_its_number_its_interval_and_how_much_of_it_was_scored():
    scored = score_row(row("val"), {"val": lines("red", "red", "blue", "red")}, 5)
    assert scored.result.value == 0.75
    assert scored.result.interval[0] < 0.75 < scored.result.interval[1]
    assert (scored.result.num_scored, scored.result.num_rows) == (4, 5)
    assert scored.values == {"val": (1.0, 1.0, 0.0, 1.0)}
    assert scored.result.metric == "equality"


def test_a_row_of_several_splits_is_their_mean_and_tells_each():
    scored = score_row(row("id", "sw"), {"id": lines("red"), "sw": lines("red", "x", "x", "x")}, 5)
    assert scored.result.value == (1.0 + 0.25) / 2
    assert scored.result.parts == {"id": 1.0, "sw": 0.25}


def with_parts(predictions, references):
    return replace(EQUAL.paligemma(predictions, references), parts={"kind": 0.5})


def test_further_numbers_of_the_metric_are_kept_by_split():
    metric = Metric(name="m", source="this test", paligemma=with_parts)
    assert score_row(row("a", metric=metric), {"a": lines("red")}, 1).result.parts == {"kind": 0.5}
    both = score_row(row("a", "b", metric=metric), {"a": lines("red"), "b": lines("x")}, 2)
    assert both.result.parts == {"a": 1.0, "b": 0.0, "a: kind": 0.5, "b: kind": 0.5}


def nothing_is_right(predictions, references):
    return Scores(value=0.0, values=(0.0,) * len(predictions))


def test_the_mode_chooses_the_rule():
    metric = replace(EQUAL, official=nothing_is_right)
    assert score_row(row("a", metric=metric), {"a": lines("red")}, 1).result.value == 1.0
    assert score_row(row("a", metric=metric), {"a": lines("red")}, 1, mode="official").result.value == 0.0


def test_a_metric_that_reads_masks_is_told_how_first():
    metric = replace(EQUAL, reads_masks=True)
    with pytest.raises(DataError, match="nothing decodes them"):
        score_row(row("a", metric=metric), {"a": lines("<seg1>")}, 1)
    scored = score_row(row("a", metric=metric), {"a": lines("red")}, 1, reading_masks=lambda metric: EQUAL)
    assert scored.result.value == 1.0


def test_a_split_without_predictions_is_said():
    with pytest.raises(DataError, match="no predictions of 'b'"):
        score_row(row("a", "b"), {"a": lines("red")}, 1)
