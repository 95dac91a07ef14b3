import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paligemma2.model.packed_linear import PackedLinear, has_packed_kernels, packed_blocks
from paligemma2.model.packed_table import PackedTable

DTYPES = [
    pytest.param(
        dtype,
        marks=pytest.mark.skipif(not has_packed_kernels(dtype), reason=f"no oneDNN kernels for {dtype}"),
    )
    for dtype in (torch.float32, torch.bfloat16)
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 96), (3, 96), (4, 96), (70, 96), (2, 3, 96)])
@torch.inference_mode()
def test_a_packed_layer_computes_what_the_layer_does(
    shape: tuple[int, ...], has_bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 56, bias=has_bias, dtype=dtype)
    x = torch.randn(shape).to(dtype)
    packed = PackedLinear(linear)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(packed(x), linear(x), atol=tolerance, rtol=tolerance)
    strided = torch.randn(*shape[:-1], 192).to(dtype)[..., ::2]
    torch.testing.assert_close(packed(strided), linear(strided), atol=tolerance, rtol=tolerance)
    assert packed.packed_bytes == linear.weight.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_a_table_gives_its_rows_and_the_product_with_all_of_them(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(9000, 64, dtype=dtype)  # three blocks
    packed = PackedTable(table, packed_blocks(dtype))
    ids = torch.tensor([[0, 4095, 4096], [8999, 7, 7]])
    assert torch.equal(packed(ids), table(ids))
    hidden = torch.randn(2, 1, 64).to(dtype)
    expected = F.linear(hidden.float(), table.weight.float())
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(packed.logits(hidden).float(), expected, atol=tolerance, rtol=1e-2)


def test_a_dtype_without_kernels_is_known() -> None:
    assert not has_packed_kernels(torch.float64)
