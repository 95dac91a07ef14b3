from dataclasses import replace

import pytest

from paligemma2.errors import ConfigError, DataError, InputError
from paligemma2.inference.loading import load
from paligemma2.jobs.evaluate import run as evaluate
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.jobs.transfer import run
from paligemma2.jobs.transfer_config import configure
from paligemma2.jobs.transfer_task import (
    open_transfer_data,
    resize_for_task,
    transfer_model_config,
    validation_splits,
)
from paligemma2.processing.image import BIG_VISION, BIG_VISION_NO_ANTIALIAS
from tests.small_task import small_task, write_colours

FILE = """
from paligemma2.evaluation.targets import Field
from tests.small_task import small_task
TASK = small_task({})
"""


@pytest.fixture
def folder(tmp_path):
    write_colours(tmp_path / "data", count=9)
    return tmp_path


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def configured(folder, changes="", settings=(), **more):
    task = folder / "colours.py"
    task.write_text(FILE.format(changes))
    return configure("tiny", folder / "data", folder / "new", task=str(task), settings=settings, **more)


def test_a_task_brings_recipe_lengths_and_rules(folder):
    config = configured(folder)
    assert (config.recipe, config.epochs, config.training.batch_size) == ("colours", 2, 4)
    assert (config.rules.text_length, config.evaluation.max_new_tokens) == (32, 32)
    assert not config.has_final_cap
    assert config.num_steps(9) == round(2 * 9 / 4)


def test_training_and_validation_are_the_splits_of_the_task(folder, tiny):
    found = open_transfer_data(configured(folder), tiny.processor, batch_size=4)
    (source,) = found.training.sources
    assert [each.suffix for each in source] == ["red", "green", "blue"] * 3
    assert source[0].prefix == "answer en what color is the picture?"
    assert [each.id for each in found.held_out] == [str(10 + number) for number in range(9)]
    name, score = found.metric
    assert name == "equality"
    assert score(["red", "green", "blue"] * 3) == 1.0
    assert score(["red"] * 9) == pytest.approx(1 / 3)
    assert found.training.batch(0).token_ids.shape[0] == 4


def test_a_part_of_the_validation_split_can_be_scored(folder, tiny):
    config = configured(folder, settings=["evaluation.examples=3"])
    found = open_transfer_data(config, tiny.processor, batch_size=4)
    assert len(found.held_out) == 3
    assert found.metric[1](["red", "green", "red"]) == pytest.approx(2 / 3)


def test_all_right_answers_are_trained_on(folder, tiny):
    changes = "suffix=Field('answers')"
    for name in ("train.json", "val.json"):
        path = folder / "data" / name
        path.write_text(
            path.read_text()
            .replace('"answer": "red"', '"answers": ["red", "dark red"]')
            .replace('"answer": "green"', '"answers": ["green"]')
            .replace('"answer": "blue"', '"answers": ["blue"]')
        )
    found = open_transfer_data(configured(folder, changes), tiny.processor, batch_size=4)
    assert found.training.sources[0][0].answers == ("red", "dark red")


def test_pictures_are_resized_as_in_the_task_s_training_and_evaluation(folder):
    model = load("tiny")
    config = configured(folder, "antialias=False, train_antialias=True")
    assert open_transfer_data(config, model.processor, batch_size=1).training.processor.resize == BIG_VISION
    resize_for_task(config, model)
    assert model.processor.resize == BIG_VISION_NO_ANTIALIAS


def test_the_fingerprint_covers_examples_and_rules(folder, tiny):
    def fingerprint(changes="", settings=()):
        config = configured(folder, changes, settings)
        return open_transfer_data(config, tiny.processor, batch_size=1).training.fingerprint

    base = fingerprint()
    assert fingerprint() == base
    assert fingerprint(settings=["training.seed=3"]) == base  # the trainer looks after that itself
    others = {
        fingerprint("prefix='{question}'"),
        fingerprint("antialias=False"),
        fingerprint("train='val'"),
        fingerprint(settings=["rules.text_length=9"]),
    }
    (folder / "data/images/train_4.png").unlink()
    others.add(fingerprint())
    assert len(others | {base}) == 6


def test_missing_pictures_are_counted(folder, tiny):
    (folder / "data/images/train_4.png").unlink()
    found = open_transfer_data(configured(folder), tiny.processor, batch_size=1)
    assert found.missing == 1
    assert found.training.num_examples == 8


def test_caps_and_window_are_the_task_s_and_the_final_cap_the_recipe_s(folder, tiny):
    config = configured(folder, "attention_cap=None")
    text = transfer_model_config(config, tiny.config).text
    assert (text.attention_cap, text.sliding_window, text.final_cap) == (
        None,
        None,
        tiny.config.text.final_cap,
    )
    assert transfer_model_config(replace(config, task=""), tiny.config) == tiny.config


def test_settings_are_chosen_on_splits_of_their_own():
    task = small_task(tune=("train[:-2]", "train[-2:]"))
    assert validation_splits(task, tune=True) == ("train[:-2]", "train[-2:]")
    assert validation_splits(task, tune=False) == ("train", "val")
    with pytest.raises(DataError, match="no splits for choosing settings"):
        validation_splits(small_task(), tune=True)


def test_what_cannot_be_is_said(folder):
    zero_shot = "recipe=None, train='', transfer_from='vqav2'"
    with pytest.raises(InputError, match="learned another task") as caught:
        configured(folder, zero_shot)
    assert caught.value.hint == "transfer vqav2 instead"
    with pytest.raises(InputError, match="there is no task"):
        configure("tiny", folder / "data", folder / "new", task="nothing")
    config = configured(folder)
    with pytest.raises(ConfigError, match="2 data sets for the task"):
        replace(config, data=config.sources * 2)


def test_a_transfer_of_a_task_trains_and_its_model_can_be_evaluated(folder):
    config = configured(folder, settings=["num_workers=0", "training.learning_rate=1e-5"])
    report = run(config, lambda name, progress: None)
    assert (report.metric, report.before, report.examples, report.steps) == ("equality", 1.0, 9, 4)
    (result,) = evaluate(
        EvaluateConfig(
            models=(str(folder / "new"),),
            tasks=(str(folder / "colours.py"),),
            data=folder / "data",
            output=folder / "runs",
        )
    )
    assert result.rows[0].value == report.after
