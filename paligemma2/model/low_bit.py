"""Weights as whole numbers of 8 or 4 bits times scales: what every kernel must agree with."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Bits: TypeAlias = Literal[4, 8]
GROUP = 128
"""Columns that share a scale where a number has 4 bits; with 8 bits it is a whole row."""
_NUMBERS_AT_ONCE = 2**21
"""So few that float32 copies stay in the cache: eight times as fast as a whole matrix."""


@dataclass(frozen=True, kw_only=True)
class LowBits:
    """A matrix of few bits per weight.

    Attributes:
        bits: 8 or 4.
        numbers: int8 [out, in]: -127 to 127, or -8 to 7.
        scales: bfloat16 [out, groups]; one group for 8 bits, else one for each 128 columns or part of them.
    """

    bits: Bits
    numbers: Tensor
    scales: Tensor


def quantize(weight: Tensor, bits: Bits) -> LowBits:
    """The nearest numbers, some rows at a time.

    With 8 bits the largest weight of a row becomes 127 or -127. With 4 bits the largest of a group becomes
    -8, whatever its sign, so that all 16 numbers are used (llama.cpp's `Q4_0` does so). Scales are rounded
    before the numbers are, so that these make up for it.

    Args:
        weight: [out, in], any floating dtype.
        bits: 8 or 4.
    """
    num_rows = max(1, _NUMBERS_AT_ONCE // weight.shape[1])
    parts = [_quantize_rows(rows.float(), bits) for rows in torch.split(weight, num_rows)]
    numbers, scales = (torch.cat(each) if len(parts) > 1 else each[0] for each in zip(*parts, strict=True))
    return LowBits(bits=bits, numbers=numbers, scales=scales)


def restore(low: LowBits, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights that the numbers stand for, [out, in], each rounded once."""
    numbers, scales = low.numbers.to(dtype), low.scales.to(dtype)
    if low.scales.shape[1] == 1:
        return numbers.mul_(scales)
    rows, columns = numbers.shape
    if columns % GROUP == 0:
        return numbers.view(rows, -1, GROUP).mul_(scales[..., None]).view(rows, columns)
    return numbers.mul_(scales.repeat_interleave(GROUP, dim=1)[:, :columns])


def round_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations in 8 bits for one product: [..., in] to int8 [..., in] and float32 scales [..., 1]."""
    scales = x.abs().amax(dim=-1, keepdim=True).float() / 127
    return (x.float() / _not_zero(scales)).round().to(torch.int8), scales


def pair_up(numbers: Tensor) -> Tensor:
    """How numbers of 4 bits are stored: int8 [out, in] to uint8 [out, in / 2], the first one in the low half.

    `in` is even.
    """
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] | (shifted[:, 1::2] << 4)


def take_apart(pairs: Tensor) -> Tensor:
    """The inverse of `pair_up`."""
    both = torch.stack((pairs & 15, pairs >> 4), dim=-1).view(torch.int8)
    return both.flatten(1).sub_(8)


def _quantize_rows(rows: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    if bits == 8:
        scales = (rows.abs().amax(dim=1, keepdim=True) / 127).bfloat16()
        return (rows / _not_zero(scales)).round_().clamp_(-127, 127).to(torch.int8), scales
    missing = -rows.shape[1] % GROUP
    groups = F.pad(rows, (0, missing)).view(len(rows), -1, GROUP)
    low, high = torch.aminmax(groups, dim=2)
    scales = (torch.where(-low > high, low, high) / -8).bfloat16()
    numbers = (groups / _not_zero(scales)[..., None]).round_().clamp_(-8, 7).to(torch.int8)
    return numbers.flatten(1)[:, : rows.shape[1]].contiguous(), scales


def _not_zero(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, torch.ones_like(scales), scales)
