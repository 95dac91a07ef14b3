import itertools
import math

import pytest

from paligemma2.training.recipe import Recipe
from paligemma2.training.schedule import learning_rate_factor

TOTAL = 100


def factors(recipe: Recipe) -> list[float]:
    return [learning_rate_factor(step, recipe) for step in range(recipe.steps)]


COSINE = Recipe(steps=TOTAL, warmup_fraction=0.1)
RSQRT = Recipe(steps=TOTAL, warmup_fraction=0.1, schedule="rsqrt", rsqrt_timescale=20)


@pytest.mark.parametrize("recipe", [COSINE, RSQRT], ids=["cosine", "rsqrt"])
def test_the_rate_rises_in_equal_steps_from_zero_to_its_peak(recipe: Recipe) -> None:
    assert factors(recipe)[:11] == pytest.approx([i / 10 for i in range(11)])


def test_the_cosine_falls_from_one_through_a_half_to_almost_zero() -> None:
    values = factors(COSINE)
    assert values[55] == pytest.approx(0.5)
    assert 0 < values[-1] < 1e-3
    tail = values[10:]
    assert all(a > b for a, b in itertools.pairwise(tail))
    # The fall is point-symmetric about its middle.
    assert [tail[i] + tail[90 - i] for i in range(1, 90)] == pytest.approx([1.0] * 89)


@pytest.mark.parametrize("step", [TOTAL, TOTAL + 50])
def test_after_the_end_the_cosine_stays_at_zero(step: int) -> None:
    assert learning_rate_factor(step, COSINE) == pytest.approx(0.0, abs=1e-12)


def test_the_inverse_root_halves_after_three_timescales_and_never_ends() -> None:
    assert learning_rate_factor(10 + 20, RSQRT) == pytest.approx(1 / math.sqrt(2))
    assert learning_rate_factor(10 + 60, RSQRT) == pytest.approx(0.5)
    assert learning_rate_factor(10 + 2000, RSQRT) == pytest.approx(1 / math.sqrt(101))


def test_a_cooldown_takes_the_inverse_root_down_to_zero_in_equal_steps() -> None:
    cooled = Recipe(
        steps=TOTAL, warmup_fraction=0.1, schedule="rsqrt", rsqrt_timescale=20, cooldown_fraction=0.2
    )
    plain, cold = factors(RSQRT), factors(cooled)
    assert cold[:81] == plain[:81]
    assert [cold[80 + i] / plain[80 + i] for i in range(20)] == pytest.approx([1 - i / 20 for i in range(20)])
    assert learning_rate_factor(TOTAL, cooled) == 0.0


@pytest.mark.parametrize(("steps", "expected"), [(1, [1.0]), (2, [0.0, 1.0])])
def test_the_shortest_runs_have_an_update_at_the_full_rate(steps: int, expected: list[float]) -> None:
    assert factors(Recipe(steps=steps)) == expected


def test_a_run_without_warm_up_begins_at_the_peak() -> None:
    assert factors(Recipe(steps=10, warmup_fraction=0.0))[0] == 1.0
