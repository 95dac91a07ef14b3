import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paligemma2.errors import ConfigError
from paligemma2.training.loss import (
    LocationSpread,
    average_losses,
    count_examples,
    loss_shares,
    soft_targets,
    suffix_loss,
    token_losses,
)

# Five pieces: 0 pad, 1 text, then three locations.
SMALL = LocationSpread(first_id=2, num_locations=3, sigma=1.0)
REAL = LocationSpread(first_id=100, num_locations=1024, sigma=8.0)
REAL_VOCAB = 1200


def some_logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def target_distribution(target: int, vocab: int, spread: LocationSpread | None, a: float = 0.0) -> Tensor:
    """What the loss takes for the truth, read off its gradient: softmax(logits) - gradient."""
    logits = torch.zeros(1, vocab, dtype=torch.float64, requires_grad=True)
    losses = token_losses(logits, torch.tensor([target]), label_smoothing=a, location_spread=spread)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return 1 / vocab - logits.grad[0]


def test_the_cross_entropy_is_that_of_a_worked_example() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    expected = [-(3.0 - np.log(np.exp(1) + np.exp(2) + np.exp(3))), np.log(3.0)]
    losses = token_losses(torch.tensor(logits), torch.tensor([2, 0]))
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_the_loss_of_low_precision_logits_is_computed_in_float32() -> None:
    logits = some_logits(4, 9).bfloat16()
    targets = torch.tensor([0, 3, 5, 8])
    assert torch.equal(token_losses(logits, targets), token_losses(logits.float(), targets))


def test_label_smoothing_gives_every_other_token_a_share_of_a_over_vocab_minus_one() -> None:
    logits = np.array([1.0, 2.0, 4.0])
    log_probs = logits - np.log(np.exp(logits).sum())
    for a in (0.1, 0.4):
        ours = token_losses(torch.tensor(logits)[None], torch.tensor([0]), label_smoothing=a).item()
        right = -((1 - a) * log_probs[0] + a / 2 * (log_probs[1] + log_probs[2]))
        pytorch = -((1 - a) * log_probs[0] + a / 3 * log_probs.sum())
        assert ours == pytest.approx(right, rel=1e-6)
        assert abs(right - pytorch) > 1e-2, "the example cannot tell the two rules apart"


@pytest.mark.parametrize("a", [0.1, 0.3])
@pytest.mark.parametrize("spread", [None, SMALL])
@pytest.mark.parametrize("target", range(5))
def test_the_target_distribution_sums_to_one(target: int, spread: LocationSpread | None, a: float) -> None:
    distribution = target_distribution(target, 5, spread, a)
    assert distribution.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (distribution > 0).all()


@pytest.mark.parametrize("a", [-0.1, 1.0, 1.5, math.nan])
def test_label_smoothing_outside_its_range_is_refused(a: float) -> None:
    with pytest.raises(ConfigError, match="label_smoothing is"):
        token_losses(some_logits(2, 3), torch.tensor([0, 1]), label_smoothing=a)


def test_the_two_averages_differ_where_suffixes_are_of_unequal_length() -> None:
    losses = torch.tensor([[9.0, 1.0, 2.0, 3.0], [9.0, 9.0, 9.0, 10.0]])
    weights = torch.tensor([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    assert average_losses(losses, weights).item() == pytest.approx((2.0 + 10.0) / 2)
    assert average_losses(losses, weights, average="token").item() == pytest.approx(16.0 / 4)


@pytest.mark.parametrize("average", ["example", "token"])
def test_an_example_without_suffix_tokens_is_no_division_by_zero(average: str) -> None:
    zero = torch.zeros(1, 3)
    assert average_losses(torch.ones(1, 3), zero, average=average).item() == 0.0  # type: ignore[arg-type]


def test_an_unknown_average_is_refused() -> None:
    with pytest.raises(ConfigError, match="'batch' is unknown"):
        average_losses(torch.ones(1, 1), torch.ones(1, 1), average="batch")  # type: ignore[arg-type]


@pytest.mark.parametrize("average", ["example", "token"])
def test_gradient_flows_to_suffix_positions_only(average: str) -> None:
    logits = some_logits(2, 4, 7).requires_grad_()
    weights = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    targets = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 1]])
    loss = suffix_loss(logits, targets, weights, label_smoothing=0.1, average=average)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, weights > 0)


def test_the_loss_in_one_is_the_two_steps_after_each_other() -> None:
    logits, targets = some_logits(2, 3, 5), torch.tensor([[0, 1, 2], [3, 4, 0]])
    weights = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    losses = token_losses(logits, targets, label_smoothing=0.2)
    for average in ("example", "token"):
        one = suffix_loss(logits, targets, weights, label_smoothing=0.2, average=average)
        assert torch.equal(one, average_losses(losses, weights, average=average))


@pytest.mark.parametrize("offset", [0, 1, 5, 500, 1000, 1022, 1023])
def test_a_location_spreads_as_a_bell_over_the_locations_alone(offset: int) -> None:
    distribution = target_distribution(REAL.first_id + offset, REAL_VOCAB, REAL)
    bell = np.exp(-0.5 * ((np.arange(1024) - offset) / 8.0) ** 2) * (abs(np.arange(1024) - offset) <= 24)
    expected = np.zeros(REAL_VOCAB)
    expected[100:1124] = bell / bell.sum()
    np.testing.assert_allclose(distribution, expected, atol=1e-6)
    assert distribution.argmax().item() == REAL.first_id + offset


def test_a_near_miss_costs_less_than_a_far_one() -> None:
    def loss_of(peak: int) -> float:
        logits = torch.zeros(1, REAL_VOCAB)
        logits[0, REAL.first_id + peak] = 5.0
        return token_losses(logits, torch.tensor([REAL.first_id + 500]), location_spread=REAL).item()

    assert loss_of(500) < loss_of(504) < loss_of(516) < loss_of(700)
    assert loss_of(496) == pytest.approx(loss_of(504))


@settings(max_examples=25, deadline=None)
@given(
    target=st.one_of(st.integers(0, 99), st.integers(1124, 1199)),
    a=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 99),
)
def test_other_tokens_are_not_spread(target: int, a: float, seed: int) -> None:
    logits, targets = some_logits(1, REAL_VOCAB, seed=seed), torch.tensor([target])
    soft = token_losses(logits, targets, label_smoothing=a, location_spread=REAL)
    assert torch.equal(soft, token_losses(logits, targets, label_smoothing=a))


def test_a_vanishing_spread_is_the_hard_target() -> None:
    logits, targets = some_logits(5, 5), torch.arange(5)
    for sigma in (1e-6, 0.01, 0.16):
        spread = LocationSpread(first_id=2, num_locations=3, sigma=sigma)
        assert torch.equal(
            token_losses(logits, targets, location_spread=spread), token_losses(logits, targets)
        )


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_a_spread_without_width_is_refused(sigma: float) -> None:
    with pytest.raises(ConfigError, match="sigma of the locations"):
        LocationSpread(first_id=0, num_locations=3, sigma=sigma)


def test_examples_of_a_packed_row_have_equal_shares() -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    weights = torch.tensor([[0.0, 1, 1, 0, 1, 0], [0.0, 0, 1, 1, 1, 1]])
    shares = loss_shares(weights, segments)
    assert shares.tolist()[0] == pytest.approx([0, 1 / 6, 1 / 6, 0, 1 / 3, 0])
    assert shares.tolist()[1] == pytest.approx([0, 0, *[1 / 12] * 4])
    tokens = loss_shares(weights, segments, average="token")
    assert tokens.flatten().tolist() == pytest.approx((weights / 7).flatten().tolist())


def test_examples_are_counted_by_where_they_begin() -> None:
    assert count_examples(torch.tensor([[1, 1, 2, 0], [0, 1, 1, 1]])) == 3
    assert count_examples(torch.tensor([[1, 2, 3, 4]])) == 4
    assert count_examples(torch.tensor([[0, 0]])) == 1  # nothing is divided by zero


def test_soft_targets_are_shares_of_one() -> None:
    ids, shares = soft_targets(torch.tensor([0, 2, 4]), SMALL)
    assert shares.sum(dim=-1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert ids[shares > 0].min() == 0
    assert ids.max() == 4
