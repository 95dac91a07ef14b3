from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.model import low_bit_kernel, quantized_linear
from paligemma2.model.low_bit import Bits, LowBits, quantize, restore
from paligemma2.model.quantized_linear import (
    QuantizedLinear,
    QuantizedTable,
    has_dynamic_kernel,
)

needs_own_kernel = pytest.mark.skipif(
    low_bit_kernel.kernel() is None, reason="no C compiler, or no AVX-512 VNNI"
)
needs_library_4 = pytest.mark.skipif(
    not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"), reason="this build of PyTorch has no 4 bits"
)
needs_onednn = pytest.mark.skipif(not has_dynamic_kernel(), reason="no product of 8 bits in this oneDNN")
DTYPES = [torch.float32, torch.bfloat16]
ROWS, COLUMNS = 192, 256


def quantized_layer(bits: Bits, linear: nn.Linear) -> QuantizedLinear:
    return QuantizedLinear(quantize(linear.weight.detach(), bits), linear.bias)


def dynamic_layer(linear: nn.Linear) -> QuantizedLinear:
    return QuantizedLinear(quantize(linear.weight.detach(), 8), linear.bias, rounds_activations=True)


def quantized_table(dtype: torch.dtype, table: nn.Embedding) -> QuantizedTable:
    return QuantizedTable(quantize(table.weight.detach(), 8), dtype)


@pytest.fixture
def no_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)


def random_low(bits: Bits, rows: int = ROWS, columns: int = COLUMNS) -> LowBits:
    return quantize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(bits)), bits)


def random_x(tokens: int, columns: int = COLUMNS) -> Tensor:
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens))


def relative_error(product: Tensor, x: Tensor, low: LowBits) -> float:
    """The root of the mean squared error over that of the exact product."""
    expected = x.double() @ restore(low).double().T
    return float((product.double() - expected).norm() / expected.norm())


def check(layer: nn.Module, low: LowBits, dtype: torch.dtype, tolerance: float) -> None:
    for tokens in (1, 3, 8, 9, 40):
        x = random_x(tokens, low.numbers.shape[1]).to(dtype)
        product = layer(x)
        assert product.dtype == dtype
        assert product.shape == (tokens, low.numbers.shape[0])
        # bfloat16: two roundings of 2^-9 at most, and an exact product as large as the rounded one.
        assert relative_error(product, x, low) < tolerance + (0.004 if dtype == torch.bfloat16 else 0)


@needs_own_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_our_kernel_is_near_the_definition(bits: Bits, dtype: torch.dtype) -> None:
    low = random_low(bits)
    layer = QuantizedLinear(low, None)
    check(layer, low, dtype, 0.01)  # activations are rounded to 8 bits
    assert layer.packed_bytes == ROWS * COLUMNS * bits // 8 + low.scales.nbytes


@needs_own_kernel
def test_our_kernel_serves_other_dtypes_too() -> None:
    low = random_low(8)
    x = random_x(3).half()
    product = QuantizedLinear(low, None)(x)
    assert product.dtype == torch.float16
    assert relative_error(product, x, low) < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_library_kernel_of_8_bits_is_near_the_definition(no_own_kernel: None, dtype: torch.dtype) -> None:
    low = random_low(8)
    layer = QuantizedLinear(low, None)
    check(layer, low, dtype, 1e-5)
    assert layer.packed_bytes == ROWS * COLUMNS + 2 * ROWS


@needs_library_4
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_library_kernel_of_4_bits_is_near_the_definition(
    no_own_kernel: None, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(quantized_linear, "_restored_pairs", None)  # nothing else may be chosen
    low = random_low(4)
    layer = QuantizedLinear(low, None)
    check(layer, low, dtype, 1e-5)
    assert layer.packed_bytes == ROWS * COLUMNS // 2 + low.scales.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(100, 96), (192, 200), (7, 33)])
@pytest.mark.parametrize("bits", [4, 8])
def test_shapes_that_the_library_would_misread_are_restored(
    no_own_kernel: None, bits: Bits, rows: int, columns: int, dtype: torch.dtype
) -> None:
    low = random_low(bits, rows, columns)
    check(QuantizedLinear(low, None), low, dtype, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_where_there_is_no_kernel_at_all_weights_are_restored(
    monkeypatch: pytest.MonkeyPatch, no_own_kernel: None, bits: Bits, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(quantized_linear, "_fits_library_4", lambda low: False)
    monkeypatch.setattr(quantized_linear, "_FEW_TOKENS", 0)
    low = random_low(bits)
    layer = QuantizedLinear(low, None)
    check(layer, low, dtype, 1e-5)
    assert layer.packed_bytes == ROWS * COLUMNS * bits // 8 + low.scales.nbytes


def test_a_large_matrix_is_restored_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, no_own_kernel: None
) -> None:
    low = random_low(8)
    layer = QuantizedLinear(low, None)
    whole = layer(random_x(20))
    monkeypatch.setattr(quantized_linear, "_RESTORED_AT_ONCE", 50 * COLUMNS)  # 192 is no multiple of 50
    torch.testing.assert_close(layer(random_x(20)), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_8_bits_without_a_kernel_are_near_the_definition(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(quantized_linear, "has_dynamic_kernel", lambda: False)
    low = random_low(8)
    check(QuantizedLinear(low, None, rounds_activations=True), low, dtype, 0.01)


@needs_onednn
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_of_onednn_gives_what_the_plain_way_does(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    low = random_low(8)
    fast = QuantizedLinear(low, None, rounds_activations=True)
    check(fast, low, dtype, 0.01)
    monkeypatch.setattr(quantized_linear, "has_dynamic_kernel", lambda: False)
    plain = QuantizedLinear(low, None, rounds_activations=True)
    assert fast.packed_bytes == plain.packed_bytes == ROWS * COLUMNS + 2 * ROWS
    for tokens in (1, 5, 40):
        x = random_x(tokens).to(dtype)
        # The sums are whole numbers; only the order of two scales differs.
        torch.testing.assert_close(fast(x), plain(x), rtol=2e-6 if dtype == torch.float32 else 8e-3, atol=0)


@needs_onednn
def test_the_largest_numbers_everywhere_do_not_saturate() -> None:
    layer = QuantizedLinear(quantize(torch.ones(64, 4096), 8), None, rounds_activations=True)
    torch.testing.assert_close(layer(torch.ones(2, 4096)), torch.full((2, 64), 4096.0), rtol=0.005, atol=0)


def test_a_build_without_the_kernel_of_onednn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(low: LowBits) -> Callable[[Tensor], Tensor]:
        raise AttributeError("no qlinear_prepack")

    has_dynamic_kernel.cache_clear()
    monkeypatch.setattr(quantized_linear, "_dynamic_onednn", missing)
    assert not has_dynamic_kernel()
    monkeypatch.setattr(quantized_linear, "_dynamic_onednn", lambda low: lambda x: x @ restore(low).T)
    has_dynamic_kernel.cache_clear()
    assert not has_dynamic_kernel()  # what it gives is something else
    has_dynamic_kernel.cache_clear()


KINDS = ["own", "library or restored", "dynamic", "dynamic plain"]


def layer_of_kind(kind: str, bits: Bits, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    linear = nn.Linear(COLUMNS, ROWS)
    if kind != "own":
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    if kind == "dynamic plain":
        monkeypatch.setattr(quantized_linear, "has_dynamic_kernel", lambda: False)
    return dynamic_layer(linear) if kind.startswith("dynamic") else quantized_layer(bits, linear)


@torch.inference_mode()
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [4, 8])
def test_an_activation_that_is_not_finite_stays_so_and_spoils_no_other_token(
    monkeypatch: pytest.MonkeyPatch, bits: Bits, kind: str, dtype: torch.dtype, value: float
) -> None:
    layer = layer_of_kind(kind, bits, monkeypatch).to(dtype)
    for tokens in (4, 20):
        x = random_x(tokens).to(dtype)
        x[1, 7] = value
        product = layer(x)
        assert not bool(product[1].isfinite().all())
        others = torch.arange(tokens) != 1
        assert bool(product[others].isfinite().all())


@torch.inference_mode()
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_keeps_leading_dimensions_its_bias_and_zeros(
    monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype, has_bias: bool
) -> None:
    if kind != "own":
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    torch.manual_seed(0)
    linear = nn.Linear(64, 48, bias=has_bias).to(dtype)
    layer = (dynamic_layer if kind.startswith("dynamic") else lambda each: quantized_layer(8, each))(linear)
    x = random_x(6, 64).view(2, 3, 64).to(dtype)
    x[0, 0] = 0
    product = layer(x)
    assert product.shape == (2, 3, 48)
    assert product.dtype == dtype
    torch.testing.assert_close(product, linear(x), atol=0.03, rtol=0.03)
    nothing = linear.bias if has_bias else torch.zeros(48, dtype=dtype)
    assert torch.equal(product[0, 0], nothing)


@torch.inference_mode()
@pytest.mark.parametrize("has_kernel", [pytest.param(True, marks=needs_own_kernel), False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_table_gives_its_rounded_rows_and_the_product_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, has_kernel: bool
) -> None:
    if not has_kernel:
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    torch.manual_seed(0)
    embedding = nn.Embedding(2500, 12)
    low = quantize(embedding.weight, 8)
    table = quantized_table(dtype, embedding)
    ids = torch.tensor([[0, 1023, 1024], [2499, 7, 7]])
    rows = table(ids)
    assert rows.dtype == dtype
    assert torch.equal(rows, restore(low)[ids].to(dtype))
    hidden = torch.randn(2, 3, 12).to(dtype)
    logits = table.logits(hidden)
    assert logits.dtype == torch.float32
    expected = F.linear(hidden.float(), restore(low))
    torch.testing.assert_close(logits, expected, atol=0.1 if has_kernel else 1e-5, rtol=0)
    assert 2500 * (12 + 2) <= table.packed_bytes <= 2512 * (128 + 2)  # filled up for the kernel
