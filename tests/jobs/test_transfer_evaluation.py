from pathlib import Path
from typing import Any

import pytest
import torch

from paligemma2.errors import ConfigError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.transfer_evaluation import Evaluation, EvaluationSettings, Evaluator, mean_loss
from paligemma2.training.best_weights import restore_best
from paligemma2.training.loss import suffix_loss
from paligemma2.training.run_log import EVALUATIONS, read_log
from paligemma2.types import Example
from tests.small_model import save_picture, save_small_model


@pytest.fixture
def predictor(tmp_path: Path) -> PaliGemma2:
    return load(save_small_model(tmp_path / "small"), dtype="float32", device="cpu", for_training=True)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    for seed in range(9):
        save_picture(tmp_path / f"{seed}.png", seed=seed)
    suffixes = ("a cat", "a dog and a cat", "grey") * 3
    return [
        Example(images=(tmp_path / f"{seed}.png",), prefix="what?", suffix=suffix)
        for seed, suffix in enumerate(suffixes)
    ]


def test_the_loss_is_the_mean_over_examples_whatever_the_batches(
    predictor: PaliGemma2, examples: list[Example]
) -> None:
    model = predictor.model
    losses = []
    for example in examples:
        inputs = predictor.processor.encode([example], train=True)
        assert inputs.loss_weights is not None
        logits = model(inputs.token_ids, inputs.pixel_values, inputs.layout)
        losses.append(suffix_loss(logits[:, :-1], inputs.token_ids[:, 1:], inputs.loss_weights[:, 1:]).item())
    assert mean_loss(predictor, examples) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_evaluations_come_when_it_is_time_and_are_written(
    predictor: PaliGemma2, examples: list[Example], tmp_path: Path
) -> None:
    told: list[Evaluation] = []
    settings = EvaluationSettings(every=3, max_new_tokens=2)
    evaluator = Evaluator(predictor, examples, settings, tmp_path / "run", told.append)
    assert not any(evaluator.after_update(step) for step in range(1, 8))
    assert [evaluation.step for evaluation in told] == [3, 6]
    assert [line["step"] for line in read_log(tmp_path / "run", EVALUATIONS)] == [3, 6]


def evaluation(step: int, score: float) -> Evaluation:
    return Evaluation(step=step, score=score, loss=1.0, seconds=0.0)


def test_the_weights_of_the_first_best_evaluation_are_kept(
    predictor: PaliGemma2, examples: list[Example], tmp_path: Path
) -> None:
    evaluator = Evaluator(predictor, examples, EvaluationSettings(), tmp_path)
    norm = predictor.model.language_model.norm.weight
    for step, score in enumerate((0.2, 0.7, 0.7, 0.3)):
        with torch.no_grad():
            norm.fill_(step)
        evaluator.record(evaluation(step, score))
    best = evaluator.best()
    assert best == evaluation(1, 0.7)
    assert restore_best(tmp_path, predictor.model, 1)
    assert (norm == 1).all()


def test_the_last_weights_need_nothing_kept(
    predictor: PaliGemma2, examples: list[Example], tmp_path: Path
) -> None:
    evaluator = Evaluator(predictor, examples, EvaluationSettings(keep="last"), tmp_path / "run")
    evaluator.record(evaluation(1, 0.5))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [EVALUATIONS]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "evaluation.every is 0"),
        ({"examples": -1}, "evaluation.examples is -1"),
        ({"max_new_tokens": 0}, "evaluation.max_new_tokens is 0"),
        ({"every": 1, "patience": 0}, "evaluation.patience is 0"),
        ({"patience": 2}, "evaluation.patience is set and evaluation.every is not"),
        ({"keep": "all"}, "evaluation.keep is 'all'"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        EvaluationSettings(**settings)
    assert raised.value.message == message
    assert raised.value.hint
