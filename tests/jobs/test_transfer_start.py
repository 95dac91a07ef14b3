import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from paligemma2.inference.loading import load
from paligemma2.jobs.transfer_evaluation import EvaluationSettings, Evaluator
from paligemma2.jobs.transfer_start import share_start, start_score
from paligemma2.types import Example
from tests.small_model import save_picture, save_small_model

OF = {"model": "small"}


def evaluator(folder: Path, run: str, suffix: str = "a cat") -> Evaluator:
    model = folder / "small"
    if not model.exists():
        save_small_model(model)
        save_picture(folder / "a.png")
    example = Example(images=(folder / "a.png",), prefix="what is this ?", suffix=suffix)
    settings = EvaluationSettings(max_new_tokens=4)
    return Evaluator(load(model, device="cpu", dtype="float32"), [example], settings, folder / run)


def is_measured(made: Evaluator, of: Mapping[str, object] = OF) -> bool:
    events: list[str] = []
    start_score(made, of, events.append)
    return events == ["scoring the start"]


def test_the_start_is_measured_once_and_then_found(tmp_path: Path) -> None:
    first = start_score(evaluator(tmp_path, "run"), OF, lambda message: None)
    assert first[0].step == 0
    assert len(first[1]) == 1
    assert start_score(evaluator(tmp_path, "run"), OF, pytest.fail) == first


def test_another_model_or_other_held_out_examples_are_measured_anew(tmp_path: Path) -> None:
    assert is_measured(evaluator(tmp_path, "run"))
    assert is_measured(evaluator(tmp_path, "run"), {"model": "another"})
    assert is_measured(evaluator(tmp_path, "run", suffix="a dog"), {"model": "another"})
    assert not is_measured(evaluator(tmp_path, "run", suffix="a dog"), {"model": "another"})


def test_a_run_finds_the_start_of_another(tmp_path: Path) -> None:
    start_score(evaluator(tmp_path, "first"), OF, lambda message: None)
    share_start([tmp_path / "none", tmp_path / "first"], tmp_path / "second")
    assert not is_measured(evaluator(tmp_path, "second"))


def test_a_run_that_has_its_own_start_keeps_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        start_score(evaluator(tmp_path, name), {"model": name}, lambda message: None)
    share_start([tmp_path / "first"], tmp_path / "second")
    assert json.loads((tmp_path / "second" / "start.json").read_text())["of"]["model"] == "second"


def test_without_any_start_there_is_nothing_to_share(tmp_path: Path) -> None:
    share_start([tmp_path / "first"], tmp_path / "second")
    assert not (tmp_path / "second").exists()
