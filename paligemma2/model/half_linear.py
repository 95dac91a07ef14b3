"""Weights of 16 bits on CPUs whose arithmetic is float32.

Without instructions for bfloat16 PyTorch multiplies such matrices one number at a time. FBGEMM's kernels read
weights of 16 bits, widen them in registers and add up in float32: half the memory of float32 at its speed.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from paligemma2.model.packed_table import BlockKernel

_BLOCK_ROWS = 1024


class HalfLinear(nn.Module):
    """A linear layer for inference: float32 in and out, weights packed in float16.

    Every bfloat16 number from 2^-14 to 65504 in size is a float16 number too, so nothing is rounded; smaller
    ones are off by at most 2^-25.

    Args:
        linear: gives weight and bias, in any floating dtype, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = _pack(linear.weight.detach())
        self.packed_bytes = 2 * linear.weight.numel()
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] to float32 [..., out]."""
        product = _multiply(x, self._packed)
        return product if self.bias is None else product.add_(self.bias)


def fits_half(weight: Tensor) -> bool:
    """Whether no number is too large for float16, which would cut it off."""
    limit = torch.finfo(torch.float16).max
    low, high = torch.aminmax(weight.detach())
    return -limit <= low.item() and high.item() <= limit


def _pack(weight: Tensor) -> Any:
    return torch.ops.quantized.linear_prepack_fp16(weight.float(), None)


def _unpack(packed: Any) -> Tensor:
    weight: Tensor = torch.ops.quantized.linear_unpack_fp16(packed)[0]
    return weight


def _multiply(x: Tensor, packed: Any) -> Tensor:
    product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), packed)
    return product


def _multiply_blocks(x: Tensor, blocks: Sequence[Any]) -> Tensor:
    return torch.cat([_multiply(x, block) for block in blocks], dim=-1)


def half_blocks() -> BlockKernel:
    """The kernel of a table; packing runs on one thread by itself."""
    threads = torch.get_num_threads()
    return BlockKernel(
        pack=_pack,
        unpack=_unpack,
        multiply=_multiply_blocks,
        bytes_per_weight=2,
        rows=_BLOCK_ROWS,
        threads=threads,
    )


@cache
def has_half_kernels() -> bool:
    """Whether this build of PyTorch has the kernels and they compute what they should."""
    linear = nn.Linear(24, 40)
    x = torch.linspace(-1.0, 1.0, 3 * 24).view(3, 24)
    with torch.inference_mode():
        try:
            product = HalfLinear(linear)(x)
        except (RuntimeError, AttributeError):
            return False
        return torch.allclose(product, linear(x), atol=1e-2)
