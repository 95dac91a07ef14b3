"""Weights in the blocked layout of oneDNN, which its kernels read at the rate of memory.

PyTorch's own product with a matrix in rows repacks it, or reads it at a fraction of that rate, each time.
The operators are those that PyTorch's compiler emits; they are private, so `has_packed_kernels` tries them.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from paligemma2.model.packed_table import BlockKernel

_BLOCK_ROWS = 4096
_LEAST_ROWS = 4
"""oneDNN's kernel for a single row is slower than that for a few, so fewer rows are filled up with zeros."""


class PackedLinear(nn.Module):
    """A linear layer for inference whose weight is packed; computes in the dtype of the weight.

    Args:
        linear: gives weight and bias, float32 or bfloat16, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = pack(linear.weight.detach())
        self.packed_bytes = linear.weight.nbytes
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1])
        return multiply(flat, self._packed, self.bias).view(*x.shape[:-1], -1)


def pack(weight: Tensor) -> Tensor:
    """The weight [out, in] in the layout of the kernels; its memory cannot be read otherwise."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """[rows, in] to [rows, out] in the dtype of `x`, which is that of the weight."""
    return _product(_filled_up(x), packed, bias)[: x.shape[0]]


def _multiply_blocks(x: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    filled = _filled_up(x)
    return torch.cat([_product(filled, block, None)[: x.shape[0]] for block in blocks], dim=-1)


def _filled_up(x: Tensor) -> Tensor:
    missing = _LEAST_ROWS - x.shape[0]
    return x if missing <= 0 else torch.cat((x, x.new_zeros(missing, x.shape[1])))


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


def packed_blocks(dtype: torch.dtype) -> BlockKernel:
    """The kernel of a table of this dtype."""
    return BlockKernel(
        pack=pack,
        unpack=Tensor.to_dense,
        multiply=_multiply_blocks,
        bytes_per_weight=dtype.itemsize,
        rows=_BLOCK_ROWS,
    )


@cache
def has_packed_kernels(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has the kernels for a dtype and they compute what they should."""
    linear = nn.Linear(64, 48, dtype=dtype)
    x = torch.linspace(-1.0, 1.0, 3 * 64).view(3, 64).to(dtype)
    with torch.inference_mode():
        try:
            product = PackedLinear(linear)(x)
            is_kept = torch.equal(pack(linear.weight).to_dense(), linear.weight)
        except (RuntimeError, AttributeError):
            return False
        return is_kept and torch.allclose(product.float(), linear(x).float(), atol=2e-2)
