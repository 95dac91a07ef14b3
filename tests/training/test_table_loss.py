from typing import Any

import pytest
import torch
from torch import Tensor

from paligemma2.errors import ConfigError
from paligemma2.model.gemma2 import soft_cap
from paligemma2.model.low_bit import quantize, restore
from paligemma2.model.restored_linear import RestoredTable
from paligemma2.training.loss import LocationSpread, token_losses
from paligemma2.training.table_loss import table_loss, tie

TOKENS, WIDTH, VOCAB = 11, 6, 37
SPREAD = LocationSpread(first_id=20, num_locations=12, sigma=1.5)


def problem(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, table, targets (locations at both ends among them) and shares (one of them zero)."""
    generator = torch.Generator().manual_seed(seed)
    hidden = 2 * torch.randn(TOKENS, WIDTH, generator=generator).to(dtype)
    table = torch.randn(VOCAB, WIDTH, generator=generator).to(dtype)
    targets = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    targets[:3] = torch.tensor([20, 31, VOCAB - 1])
    shares = torch.rand(TOKENS, generator=generator).to(dtype)
    shares[4] = 0.0
    return hidden.requires_grad_(), table.requires_grad_(), targets, shares


def plain_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, shares: Tensor, cap: float | None, **options: Any
) -> Tensor:
    logits = soft_cap(torch.nn.functional.linear(hidden, table).float(), cap)
    return (token_losses(logits, targets, **options) * shares).sum()


def gradients(loss: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, of)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("spread", [None, SPREAD])
@pytest.mark.parametrize(("tokens_at_a_time", "rows_at_a_time"), [(TOKENS, VOCAB), (4, 10), (1, 1)])
def test_loss_and_gradients_are_those_of_whole_logits(
    cap: float | None,
    smoothing: float,
    spread: LocationSpread | None,
    tokens_at_a_time: int,
    rows_at_a_time: int,
) -> None:
    hidden, table, targets, shares = problem()
    options: dict[str, Any] = {"label_smoothing": smoothing, "location_spread": spread}
    whole = plain_loss(hidden, table, targets, shares, cap, **options)
    chunked = table_loss(
        hidden,
        table,
        targets,
        shares,
        final_cap=cap,
        logit_bytes=4 * VOCAB * tokens_at_a_time,
        block_rows=rows_at_a_time,
        **options,
    )
    torch.testing.assert_close(chunked, whole)
    for ours, theirs in zip(gradients(chunked, hidden, table), gradients(whole, hidden, table), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cap", [None, 2.0])
def test_gradients_are_the_slopes_of_the_loss(cap: float | None) -> None:
    hidden, table, targets, shares = problem(torch.float64)

    def loss(hidden: Tensor, table: Tensor) -> Tensor:
        return 3.0 * table_loss(
            hidden,
            table,
            targets,
            shares,
            final_cap=cap,
            label_smoothing=0.2,
            location_spread=SPREAD,
            logit_bytes=8 * VOCAB * 4,
            block_rows=10,
        )

    for given, gradient in zip((hidden, table), gradients(loss(hidden, table), hidden, table), strict=True):
        for place in range(0, given.numel(), 5):
            step = torch.zeros_like(given)
            step.view(-1)[place] = 1e-6
            others = [each.detach() for each in (hidden, table)]
            ends = []
            for sign in (1, -1):
                moved = [other + sign * step if other.shape == step.shape else other for other in others]
                ends.append(loss(*moved))
            slope = (ends[0] - ends[1]) / 2e-6
            assert slope.item() == pytest.approx(gradient.view(-1)[place].item(), rel=1e-4, abs=1e-7)


def test_under_autocast_it_is_as_exact_as_whole_logits() -> None:
    hidden, table, targets, shares = problem()
    exact = plain_loss(hidden, table, targets, shares, 30.0)
    wanted = gradients(exact, hidden, table)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = plain_loss(hidden, table, targets, shares, 30.0)
        chunked = table_loss(hidden, table, targets, shares, final_cap=30.0, block_rows=10)
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)
    for ours, theirs, right in zip(
        gradients(chunked, hidden, table), gradients(whole, hidden, table), wanted, strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - right).norm() <= 1.1 * (theirs - right).norm()


def test_a_tied_table_gets_one_gradient_of_both_its_uses_in_the_memory_of_one() -> None:
    _, table, targets, shares = problem()
    plain = plain_loss(torch.nn.functional.embedding(targets, table), table, targets, shares, 2.0)
    (wanted,) = gradients(plain, table)
    looked_up, multiplied = tie(table)
    hidden = torch.nn.functional.embedding(targets, looked_up, sparse=True)
    loss = table_loss(hidden, multiplied, targets, shares, final_cap=2.0)
    function = loss.grad_fn
    assert function is not None
    address = function.gradients[1].data_ptr()  # type: ignore[attr-defined]
    loss.backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    torch.testing.assert_close(table.grad, wanted, rtol=1e-4, atol=1e-6)
    assert table.grad.data_ptr() == address


def test_a_second_way_back_is_refused() -> None:
    hidden, table, targets, shares = problem()
    loss = table_loss(hidden, table, targets, shares, final_cap=2.0)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(AssertionError, match="a second way back"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_frozen_table_gets_no_gradient() -> None:
    hidden, table, targets, shares = problem()
    (alone,) = gradients(table_loss(hidden, table.detach(), targets, shares, final_cap=2.0), hidden)
    both = gradients(table_loss(hidden, table, targets, shares, final_cap=2.0), hidden, table)
    assert torch.equal(alone, both[0])


def test_without_gradients_none_is_computed() -> None:
    hidden, table, targets, shares = problem()
    with torch.no_grad():
        loss = table_loss(hidden, table, targets, shares, final_cap=2.0)
    assert not loss.requires_grad
    assert loss == table_loss(hidden, table, targets, shares, final_cap=2.0)


def test_no_token_at_all_gives_no_loss_and_no_gradient() -> None:
    hidden, table, targets, shares = problem()
    loss = table_loss(hidden[:0], table, targets[:0], shares[:0], final_cap=2.0)
    assert loss.item() == 0.0
    assert not gradients(loss, table)[0].any()


def test_logits_of_all_tokens_never_exist_at_once() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 4, generator=generator, requires_grad=True)
    table = torch.randn(1000, 4, generator=generator, requires_grad=True)
    with Watch():
        table_loss(
            hidden,
            table,
            torch.arange(64),
            torch.ones(64),
            final_cap=30.0,
            logit_bytes=4 * 1000 * 8,
            block_rows=100,
        )
    assert largest == table.numel() == 4000  # of its gradient; the logits of 8 tokens come in blocks of 800


def test_smoothing_of_everything_is_refused() -> None:
    hidden, table, targets, shares = problem()
    with pytest.raises(ConfigError, match=r"label_smoothing is 1\.0"):
        table_loss(hidden, table, targets, shares, final_cap=None, label_smoothing=1.0)


@pytest.mark.parametrize("rows_at_a_time", [VOCAB, 10])
def test_a_table_of_few_bits_gives_the_loss_of_its_restored_rows(rows_at_a_time: int) -> None:
    hidden, table, targets, shares = problem()
    low = quantize(table.detach(), 8)
    whole = plain_loss(hidden, restore(low), targets, shares, 2.0)
    found = table_loss(
        hidden, RestoredTable(low, torch.float32), targets, shares, final_cap=2.0, block_rows=rows_at_a_time
    )
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(gradients(found, hidden), gradients(whole, hidden))
