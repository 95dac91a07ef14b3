import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.model import restored_linear
from paligemma2.model.gemma2 import OutputTable
from paligemma2.model.low_bit import Bits, LowBits, quantize, restore
from paligemma2.model.restored_linear import RestoredLinear, RestoredTable
from paligemma2.model.weight_forms import is_packed, stored_bytes

BITS: list[Bits] = [4, 8]
SHAPES = [(24, 256), (10, 200), (7, 33)]  # whole groups, a part of one, an odd number of columns


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture(params=[None, 3], ids=["at once", "three rows at once"])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    if request.param is not None:
        monkeypatch.setitem(restored_linear._RESTORED_AT_ONCE, "cpu", request.param * 256)
    return request.param


def random_low(bits: Bits, rows: int, columns: int) -> LowBits:
    return quantize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(bits)), bits)


def random_x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()


def result_and_gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    y = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)
    (gradient,) = torch.autograd.grad(y, x, weights)
    return y, gradient


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", BITS)
def test_result_and_gradient_are_those_of_the_layer_with_the_restored_weights(
    bits: Bits, shape: tuple[int, int], has_bias: bool, rows_at_once: int | None
) -> None:
    low = random_low(bits, *shape)
    bias = torch.randn(shape[0]) if has_bias else None
    x = random_x(2, 5, shape[1])
    y, gradient = result_and_gradient(RestoredLinear(low, bias), x)
    expected_y, expected = result_and_gradient(lambda x: F.linear(x, restore(low), bias), x)  # type: ignore[arg-type]
    torch.testing.assert_close(y, expected_y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_in_16_bits_too(bits: Bits, rows_at_once: int | None) -> None:
    low = random_low(bits, 24, 256)
    x = random_x(40, 256, dtype=torch.bfloat16)
    y, gradient = result_and_gradient(RestoredLinear(low, None), x)
    weight = restore(low, torch.bfloat16)
    expected_y, expected = result_and_gradient(lambda x: F.linear(x, weight), x)  # type: ignore[arg-type]
    assert y.dtype == gradient.dtype == torch.bfloat16
    for found, wanted in ((y, expected_y), (gradient, expected)):  # sums of parts are rounded one by one
        assert (found - wanted).float().norm() < 0.005 * wanted.float().norm()


@pytest.mark.parametrize("bits", BITS)
def test_autocast_counts_as_in_a_layer_of_floats(bits: Bits) -> None:
    low = random_low(bits, 24, 256)
    linear = nn.Linear(256, 24)
    linear.weight.data, x = restore(low), random_x(6, 256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = RestoredLinear(low, linear.bias)(x), linear(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, atol=0.03, rtol=0.01)
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert gradient.dtype == torch.float32


def test_a_frozen_input_needs_no_gradient() -> None:
    y = RestoredLinear(random_low(8, 24, 256), None)(random_x(6, 256).detach())
    assert not y.requires_grad


def test_gradients_are_the_same_in_another_thread() -> None:
    layer, x = RestoredLinear(random_low(4, 24, 256), None), random_x(6, 256)
    loss = layer(x).square().sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    expected = 2 * layer(x) @ restore(random_low(4, 24, 256))
    torch.testing.assert_close(x.grad, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_table_gives_its_rows_and_lets_gradients_through_the_product_with_them(
    dtype: torch.dtype, rows_at_once: int | None
) -> None:
    low = random_low(8, 50, 12)
    table = RestoredTable(low, dtype)
    assert isinstance(table, OutputTable)
    ids = torch.tensor([[0, 49, 7], [7, 7, 1]])
    rows = table(ids)
    assert rows.dtype == dtype
    assert torch.equal(rows, restore(low, dtype)[ids])
    assert len(table) == 50
    assert torch.equal(table[40:60], restore(low)[40:])
    hidden = random_x(2, 3, 12, dtype=dtype)
    logits, gradient = result_and_gradient(table.logits, hidden)  # type: ignore[arg-type]
    weight = restore(low, dtype)
    expected_logits, expected = result_and_gradient(lambda x: F.linear(x, weight).float(), hidden)  # type: ignore[arg-type]
    assert logits.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(logits, expected_logits, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradient, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("bits", BITS)
def test_nothing_but_the_few_bits_is_kept(bits: Bits) -> None:
    low = random_low(bits, 64, 256)
    layer = RestoredLinear(low, None)
    assert is_packed(layer)
    assert stored_bytes(layer) == 64 * 256 * bits // 8 + low.scales.nbytes
    y = layer(random_x(6, 256))
    kept = y.grad_fn.next_functions[0][0].saved_tensors  # behind the view
    assert kept == ()


def test_never_more_rows_are_floats_than_are_restored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(restored_linear._RESTORED_AT_ONCE, "cpu", 5 * 256)
    restored, plain = [], restored_linear.restore
    monkeypatch.setattr(
        restored_linear, "restore", lambda low, dtype: restored.append(len(low.numbers)) or plain(low, dtype)
    )
    x = random_x(6, 256)
    RestoredLinear(random_low(4, 23, 256), None)(x).sum().backward()
    assert restored == [5, 5, 5, 5, 3] * 2
