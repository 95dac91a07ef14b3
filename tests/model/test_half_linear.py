import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paligemma2.model.half_linear import HalfLinear, fits_half, half_blocks, has_half_kernels
from paligemma2.model.packed_table import PackedTable

needs_kernels = pytest.mark.skipif(not has_half_kernels(), reason="this build of PyTorch has no FBGEMM")


@needs_kernels
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 40), (7, 40), (2, 3, 40)])
def test_bfloat16_weights_are_used_without_rounding(shape: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 56, bias=has_bias).bfloat16()
    x = torch.randn(shape)
    expected = F.linear(x, linear.weight.float(), linear.bias.float() if has_bias else None)
    with torch.inference_mode():
        torch.testing.assert_close(HalfLinear(linear)(x), expected, atol=1e-5, rtol=1e-5)
        strided = torch.randn(*shape[:-1], 80)[..., ::2]
        assert HalfLinear(linear)(strided).shape == (*shape[:-1], 56)


@needs_kernels
@torch.inference_mode()
def test_a_table_gives_its_rows_and_the_product_with_all_of_them() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(2500, 12).bfloat16()  # three blocks
    half = PackedTable(table, half_blocks())
    ids = torch.tensor([[0, 1023, 1024], [2499, 7, 7]])
    for _ in range(2):  # the second time they are remembered
        assert torch.equal(half(ids), table(ids))
    hidden = torch.randn(2, 3, 12)
    expected = F.linear(hidden, table.weight.float())
    torch.testing.assert_close(half.logits(hidden), expected, atol=1e-5, rtol=1e-5)
    assert half.packed_bytes == table.weight.nbytes


@pytest.mark.parametrize(("value", "fits"), [(65504.0, True), (-65504.0, True), (-1e5, False), (7e4, False)])
def test_a_weight_too_large_for_float16_is_found(value: float, fits: bool) -> None:
    assert fits_half(torch.tensor([[0.0, value], [1.0, 2.0]])) == fits
