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


@pytest.mark.parametrize(("steps", "fraction", "expected"), [(200, 0.05, 10), (200, 0.0, 1), (3, 0.05, 1)])
def test_the_warmup_is_a_share_of_the_steps_and_at_least_one(
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
