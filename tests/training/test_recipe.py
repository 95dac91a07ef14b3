import dataclasses
import math
from typing import Any

import pytest

from paligemma2.errors import ConfigError
from paligemma2.training.recipe import Recipe

BASE = Recipe(steps=200)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"grad_clip": 0.0},
        {"checkpoint_every": 0},
        {"log_every": 0},
        {"warmup_fraction": 1.0},
        {"warmup_fraction": -0.1},
        {"label_smoothing": 1.0},
        {"average_decay": 1.0},
        {"average_decay": -0.5},
        {"location_sigma": 0.0},
        {"location_sigma": -8.0},
        {"micro_batch_size": 0},
        {"weight_decay": -1e-6},
        {"dropout": 1.0},
        {"cooldown_fraction": 1.0},
        {"rsqrt_timescale": 0.0},
        {"spike_factor": math.inf},
        {"max_skipped": 0},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused_by_name_and_value(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(ConfigError) as raised:
        dataclasses.replace(BASE, **change)
    assert raised.value.message == f"{name} is {value}"
    assert raised.value.hint
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["optimizer", "decay_rule", "schedule", "average", "precision"])
def test_an_unknown_word_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 'sgd'") as raised:
        dataclasses.replace(BASE, **{name: "sgd"})  # type: ignore[arg-type]
    assert getattr(BASE, name) in raised.value.hint


def test_a_factor_of_zero_is_refused_because_it_is_no_freezing() -> None:
    with pytest.raises(ConfigError, match="the learning rate factor of 'image' is 0") as raised:
        dataclasses.replace(BASE, learning_rate_factors={"image": 0})
    assert "freeze" in raised.value.hint


@pytest.mark.parametrize(
    ("steps", "fraction", "expected"),
    [(200, 0.05, 10), (200, 0.0, 0), (3, 0.05, 1), (1, 0.05, 0), (2, 0.9, 1)],
)
def test_the_warmup_is_a_share_of_the_steps_at_least_one_and_not_all(
    steps: int, fraction: float, expected: int
) -> None:
    assert Recipe(steps=steps, warmup_fraction=fraction).warmup_steps == expected


def test_the_defaults_are_those_of_the_reference_transfers() -> None:
    assert (BASE.learning_rate, BASE.grad_clip, BASE.warmup_fraction) == (1e-5, 1.0, 0.05)
    assert (BASE.optimizer, BASE.average, BASE.label_smoothing, BASE.location_sigma) == (
        "adamw",
        "example",
        0.0,
        None,
    )
