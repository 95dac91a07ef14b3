import itertools

import pytest

from paligemma2.training.schedule import learning_rate_factor

TOTAL, WARMUP = 100, 10


def factors(total: int = TOTAL, warmup: int = WARMUP) -> list[float]:
    return [learning_rate_factor(step, total_steps=total, warmup_steps=warmup) for step in range(total)]


def test_the_rate_rises_in_equal_steps_to_its_peak() -> None:
    assert factors()[:WARMUP] == pytest.approx([(i + 1) / 10 for i in range(WARMUP)])


def test_the_first_update_already_moves() -> None:
    assert factors()[0] == pytest.approx(0.1)


def test_the_cosine_falls_from_one_through_a_half_to_almost_zero() -> None:
    values = factors()
    assert values[WARMUP] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert 0 < values[-1] < 1e-3
    tail = values[WARMUP:]
    assert all(a > b for a, b in itertools.pairwise(tail))
    # The fall is point-symmetric about its middle.
    assert [tail[i] + tail[90 - i] for i in range(1, 90)] == pytest.approx([1.0] * 89)


@pytest.mark.parametrize("step", [TOTAL, TOTAL + 50])
def test_after_the_end_the_cosine_stays_at_zero(step: int) -> None:
    value = learning_rate_factor(step, total_steps=TOTAL, warmup_steps=WARMUP)
    assert value == pytest.approx(0.0, abs=1e-12)


def test_a_single_step_has_the_full_rate() -> None:
    assert factors(total=1, warmup=1) == [1.0]
