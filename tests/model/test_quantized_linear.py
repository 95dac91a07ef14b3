from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from paligemma2.model import low_bit_kernel, quantized_linear
from paligemma2.model.low_bit import Bits, quantize, restore
from paligemma2.model.quantized_linear import (
    DynamicLinear,
    QuantizedLinear,
    QuantizedTable,
    has_dynamic_kernel,
)


@pytest.fixture(params=["fastest", "PyTorch's", "restored"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which kernels there are."""
    if request.param != "fastest":
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    if request.param == "restored":
        monkeypatch.setattr(quantized_linear, "_fits_library_4", lambda low: False)
        monkeypatch.setattr(quantized_linear, "_FEW_TOKENS", 0)
    kind: str = request.param
    return kind


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 256), (3, 256), (40, 256), (2, 3, 256)])
@pytest.mark.parametrize("bits", [8, 4])
@torch.inference_mode()
def test_every_kernel_computes_what_the_restored_weights_do(
    kernels: str, bits: Bits, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    low, bias = quantize(torch.randn(64, 256), bits), torch.randn(64).to(dtype)
    x = torch.randn(shape).to(dtype)
    expected = F.linear(x.float(), restore(low), bias.float())
    layer = QuantizedLinear(low, bias)
    product = layer(x)
    assert (product.shape, product.dtype) == (expected.shape, dtype)
    assert (product.float() - expected).norm() / expected.norm() < 0.013
    assert layer.packed_bytes < 64 * 256 * bits / 8 * 1.1


@pytest.mark.parametrize("columns", [40, 200])
@torch.inference_mode()
def test_columns_need_not_fill_a_group(kernels: str, columns: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, columns)
    for low in (quantize(torch.randn(24, columns), 8), quantize(torch.randn(24, columns), 4)):
        expected = F.linear(x, restore(low))
        assert (QuantizedLinear(low, None)(x) - expected).norm() / expected.norm() < 0.013


@torch.inference_mode()
def test_a_table_gives_its_rows_and_the_product_with_all_of_them(kernels: str) -> None:
    torch.manual_seed(0)
    low = quantize(torch.randn(100, 64), 8)
    table = QuantizedTable(low, torch.float32)
    ids = torch.tensor([[0, 16, 99], [7, 7, 1]])
    torch.testing.assert_close(table(ids), restore(low)[ids])
    assert QuantizedTable(low, torch.bfloat16)(ids).dtype == torch.bfloat16
    hidden = torch.randn(2, 1, 64)
    expected = F.linear(hidden, restore(low))
    logits = table.logits(hidden.bfloat16())
    assert (logits.shape, logits.dtype) == (expected.shape, torch.float32)
    assert (logits - expected).norm() / expected.norm() < 0.015


@pytest.mark.parametrize("has_kernel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_activations_of_8_bits_give_nearly_the_product(
    dtype: torch.dtype, has_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_kernel and not has_dynamic_kernel():
        pytest.skip("no oneDNN product of 8 bits")
    monkeypatch.setattr(quantized_linear, "has_dynamic_kernel", lambda: has_kernel)
    torch.manual_seed(0)
    low, bias = quantize(torch.randn(48, 200), 8), torch.randn(48).to(dtype)
    x = torch.randn(2, 5, 200).to(dtype) * torch.logspace(-2, 2, 5)[:, None].to(dtype)
    expected = F.linear(x.float(), restore(low), bias.float())
    product = DynamicLinear(low, bias)(x)
    assert (product.shape, product.dtype) == (expected.shape, dtype)
    each = (product.float() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert each.max() < 0.02  # small tokens are as good as large ones


@torch.inference_mode()
def test_a_large_product_restores_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    low = quantize(torch.randn(90, 64), 8)
    x = torch.randn(20, 64)
    restored: Callable[..., torch.Tensor] = quantized_linear._restored
    whole = restored(low, x)
    monkeypatch.setattr(quantized_linear, "_RESTORED_AT_ONCE", 64 * 16)
    torch.testing.assert_close(restored(low, x), whole)
