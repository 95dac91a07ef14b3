"""Layers whose weights have 8 or 4 bits, each with the fastest kernel that is here.

On the CPU that is our own (`low_bit_kernel`), else PyTorch's; on other devices, and where nothing else fits,
weights are restored for each product, which saves memory and no time.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.model import low_bit_kernel
from paligemma2.model.low_bit import (
    GROUP,
    LowBits,
    pair_up,
    quantize,
    restore,
    round_activations,
    take_apart,
)

Multiply: TypeAlias = Callable[[Tensor], Tensor]
"""[tokens, in] to [tokens, out] in the same dtype."""
_FEW_TOKENS = 8
_WHOLE_COLUMNS = 32
"""PyTorch's product of 8 bits reads beyond rows of other lengths: it crashes, or is wrong."""
_RESTORED_AT_ONCE = 2**26
"""Numbers, or a product with the table would restore all of it: 2.4 GB in float32."""


class QuantizedLinear(nn.Module):
    """A linear layer for inference with weights of few bits.

    Args:
        low: the weight.
        bias: [out] or None.
        rounds_activations: to 8 bits too, with a scale for each token; for weights of 8 bits.
    """

    def __init__(self, low: LowBits, bias: Tensor | None, *, rounds_activations: bool = False) -> None:
        super().__init__()
        self._multiply, self.packed_bytes = _dynamic_product(low) if rounds_activations else _product(low)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out] in the dtype of `x`."""
        return _with_bias(self._multiply, x, self.bias)


class QuantizedTable(nn.Module):
    """A table of embeddings that is the output layer too, with 8 bits, kept once.

    Args:
        low: the weight, of 8 bits.
        dtype: of the rows that are looked up.
    """

    def __init__(self, low: LowBits, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._rows: Callable[[Tensor], Tensor]
        self._multiply: Multiply
        if _has_own_kernel(low):
            packed = low_bit_kernel.pack(low)
            self._rows = partial(low_bit_kernel.unpack_rows, packed)
            self._multiply, self.packed_bytes = partial(_own, packed), packed.num_bytes
        else:
            self._rows = lambda ids: low.numbers[ids].float() * low.scales[ids].float()
            self._multiply, self.packed_bytes = _product(low)

    def forward(self, token_ids: Tensor) -> Tensor:
        """The rows of these tokens: int64 [...] to [..., width]."""
        return self._rows(token_ids).to(self._dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: [..., width] to float32 [..., rows]."""
        return _with_bias(self._multiply, hidden.float(), None)


def _with_bias(multiply: Multiply, x: Tensor, bias: Tensor | None) -> Tensor:
    product = multiply(x.reshape(-1, x.shape[-1]))
    if bias is not None:
        product = product + bias
    return product.view(*x.shape[:-1], -1)


def _product(low: LowBits) -> tuple[Multiply, int]:
    """The product with a weight, and the bytes that are kept for it."""
    if _has_own_kernel(low):
        packed = low_bit_kernel.pack(low)
        return partial(_own, packed), packed.num_bytes
    num_bytes = low.numbers.nbytes * low.bits // 8 + low.scales.nbytes
    if low.numbers.device.type == "cpu" and low.bits == 8 and low.numbers.shape[1] % _WHOLE_COLUMNS == 0:
        return partial(_library_8, low), num_bytes
    if low.numbers.device.type == "cpu" and low.numbers.shape[1] % GROUP == 0 and _fits_library_4(low):
        return _library_4(low), num_bytes
    if low.bits == 4 and low.numbers.shape[1] % 2 == 0:
        return partial(_restored_pairs, pair_up(low.numbers), low.scales), num_bytes
    return partial(_restored, low), low.numbers.nbytes + low.scales.nbytes


def _has_own_kernel(low: LowBits) -> bool:
    return low.numbers.device.type == "cpu" and low_bit_kernel.kernel() is not None


def _own(packed: low_bit_kernel.PackedBits, x: Tensor) -> Tensor:
    if x.dtype in low_bit_kernel.KERNEL_DTYPES:
        return low_bit_kernel.multiply(x, packed)
    return low_bit_kernel.multiply(x.float(), packed).to(x.dtype)


def _library_8(low: LowBits, x: Tensor) -> Tensor:
    if x.shape[0] <= _FEW_TOKENS:
        product: Tensor = torch._weight_int8pack_mm(x, low.numbers, low.scales[:, 0].to(x.dtype))
        return product
    return _restored(low, x)


def _fits_library_4(low: LowBits) -> bool:
    return low.numbers.shape[0] % 64 == 0 and hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")


def _library_4(low: LowBits) -> Multiply:
    numbers = (low.numbers + 8).to(torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
    pairs = torch.stack((low.scales, torch.zeros_like(low.scales)), dim=-1).transpose(0, 1).contiguous()

    def multiply(x: Tensor) -> Tensor:
        scales = pairs.to(x.dtype)
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), packed, GROUP, scales)
        return product

    return multiply


def _restored(low: LowBits, x: Tensor) -> Tensor:
    num_rows = max(1, _RESTORED_AT_ONCE // low.numbers.shape[1])
    parts = zip(torch.split(low.numbers, num_rows), torch.split(low.scales, num_rows), strict=True)
    products = [_restored_rows(LowBits(bits=low.bits, numbers=n, scales=s), x) for n, s in parts]
    return torch.cat(products, dim=-1) if len(products) > 1 else products[0]


def _restored_pairs(pairs: Tensor, scales: Tensor, x: Tensor) -> Tensor:
    return _restored_rows(LowBits(bits=4, numbers=take_apart(pairs), scales=scales), x)


def _restored_rows(low: LowBits, x: Tensor) -> Tensor:
    if low.bits == 8:  # whole numbers to 127 are exact in bfloat16, so the scale can follow
        return F.linear(x, low.numbers.to(x.dtype)) * low.scales[:, 0].to(x.dtype)
    return F.linear(x, restore(low, x.dtype))


def _dynamic_product(low: LowBits) -> tuple[Multiply, int]:
    is_fast = low.numbers.device.type == "cpu" and has_dynamic_kernel()
    multiply = _dynamic_onednn(low) if is_fast else partial(_dynamic, low)
    return multiply, low.numbers.nbytes + low.scales.nbytes


def _dynamic(low: LowBits, x: Tensor) -> Tensor:
    numbers, scales = round_activations(x)
    product = F.linear(numbers.float(), low.numbers.float())
    return (product * scales * low.scales[:, 0]).to(x.dtype)


def _dynamic_onednn(low: LowBits) -> Multiply:
    packed = torch.ops.onednn.qlinear_prepack(low.numbers, None)
    weight_scales = low.scales[:, 0].float()
    no_offsets = torch.zeros(len(weight_scales), dtype=torch.int32)

    def multiply(x: Tensor) -> Tensor:
        numbers, scales = round_activations(x)
        # Unsigned with an offset: the kernel for signed activations is a slow reference.
        unsigned = (numbers.to(torch.int16) + 128).to(torch.uint8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            unsigned,
            1.0,
            128,
            packed,
            weight_scales,
            no_offsets,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return (product * scales).to(x.dtype)

    return multiply


@cache
def has_dynamic_kernel() -> bool:
    """Whether this build of PyTorch has oneDNN's product of 8 bits and it is exact on this processor."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 128, generator=generator)
    x = torch.randn(5, 128, generator=generator)
    weight[0], x[0] = 1, 1  # the largest numbers everywhere: sums of 16 bits would be cut off
    low = quantize(weight, 8)
    try:
        product = _dynamic_onednn(low)(x)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(product, _dynamic(low, x), atol=1e-3)
