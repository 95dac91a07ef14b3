"""Weights of 16 bits on CPUs whose arithmetic is float32.

Without instructions for bfloat16 PyTorch multiplies such matrices one number at a time. FBGEMM's kernels read
weights of 16 bits, widen them in registers and add up in float32: half the memory of float32 at its speed.
"""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_ROWS = 1024
_KEPT_ROWS = 8192


class HalfLinear(nn.Module):
    """A linear layer for inference: float32 in and out, weights packed in float16.

    Every bfloat16 number from 2^-14 to 65504 in size is a float16 number too, so nothing is rounded; smaller
    ones are off by at most 2^-25.

    Args:
        linear: gives weight and bias, in any floating dtype.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] to float32 [..., out]."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), self._packed)
        return product


class HalfEmbedding(nn.Module):
    """A table of embeddings that is the output layer too, kept once, packed in float16 by blocks of rows.

    To look a row up its block is unpacked, which takes milliseconds; rows used are remembered.

    Args:
        table: gives the weight, in any floating dtype.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self._dtype = table.weight.dtype
        blocks = torch.split(table.weight.detach(), _BLOCK_ROWS)
        share = -(-len(blocks) // torch.get_num_threads())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            packed = pool.map(_pack, (blocks[i : i + share] for i in range(0, len(blocks), share)))
        self._blocks = [block for part in packed for block in part]
        self._kept: dict[int, Tensor] = {}

    def forward(self, token_ids: Tensor) -> Tensor:
        """The rows of these tokens: int64 [...] to [..., width] in the dtype of the table."""
        different, places = torch.unique(token_ids, return_inverse=True)
        tokens = different.tolist()
        by_block: dict[int, list[int]] = {}
        for token in tokens:
            if token not in self._kept:
                by_block.setdefault(token // _BLOCK_ROWS, []).append(token)
        if len(self._kept) > _KEPT_ROWS:
            self._kept = {token: self._kept[token] for token in tokens if token in self._kept}
        for block, missing in by_block.items():
            rows, _ = torch.ops.quantized.linear_unpack_fp16(self._blocks[block])
            for token in missing:
                self._kept[token] = rows[token % _BLOCK_ROWS].to(self._dtype)
        return torch.stack([self._kept[token] for token in tokens])[places]

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: float32 [..., width] to float32 [..., rows]."""
        hidden = hidden.contiguous()
        parts = [torch.ops.quantized.linear_dynamic_fp16(hidden, block) for block in self._blocks]
        return torch.cat(parts, dim=-1)


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


def fits_half(model: nn.Module) -> bool:
    """Whether no weight is too large for float16, which would be cut off."""
    limit = torch.finfo(torch.float16).max
    bounds = (torch.aminmax(parameter.detach()) for parameter in model.parameters() if parameter.dim() > 1)
    return all(-limit <= low.item() and high.item() <= limit for low, high in bounds)


def to_half_linear(model: nn.Module, table: str) -> None:
    """Pack every linear layer, a few at a time, and widen all else to float32.

    Args:
        model: on the CPU.
        table: name of the embedding that is the output layer too.
    """
    # Parents alone: a list of the layers themselves would keep their weights in memory until the end.
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(_replace, places))
    parent, _, name = table.rpartition(".")
    embedding = model.get_submodule(table)
    assert isinstance(embedding, nn.Embedding)
    setattr(model.get_submodule(parent), name, HalfEmbedding(embedding))
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    del embedding
    _give_back_memory()


def _replace(place: tuple[nn.Module, str]) -> None:
    parent, name = place
    linear = parent.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    setattr(parent, name, HalfLinear(linear))
    del linear  # or its memory would be given back too late for the next one
    _give_back_memory()


def _pack(blocks: Sequence[Tensor]) -> list[Any]:
    wide = torch.empty(blocks[0].shape)  # one for all, or the heap is left with holes of its size
    return [
        torch.ops.quantized.linear_prepack_fp16(wide[: len(block)].copy_(block), None) for block in blocks
    ]


def _give_back_memory() -> None:
    """Let glibc return what was freed: its heap keeps matrices of a few megabytes, here for ever."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
