"""A table of embeddings that is the output layer too, kept once, in blocks that only a kernel can read."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

_KEPT_ROWS = 8192

Block: TypeAlias = Any
"""Some rows of a table as a kernel wants them."""


@dataclass(frozen=True, kw_only=True)
class BlockKernel:
    """What can be done with rows in the layout of a kernel.

    Attributes:
        pack: [rows, width] in the dtype of the table to a block.
        unpack: a block to [rows, width] in any floating dtype, without rounding.
        multiply: [tokens, width] and blocks to [tokens, rows of all blocks].
        bytes_per_weight: in a block.
        rows: of a block: more make fewer calls, and new tokens slower to look up.
        threads: blocks that are packed at once; 1 where packing uses all threads by itself.
    """

    pack: Callable[[Tensor], Block]
    unpack: Callable[[Block], Tensor]
    multiply: Callable[[Tensor, Sequence[Block]], Tensor]
    bytes_per_weight: int
    rows: int
    threads: int = 1


class PackedTable(nn.Module):
    """The table in blocks of rows. To look a row up its block is unpacked; rows used are remembered.

    Args:
        table: gives the weight.
        kernel: of the blocks.
    """

    def __init__(self, table: nn.Embedding, kernel: BlockKernel) -> None:
        super().__init__()
        self.dtype = table.weight.dtype
        self.packed_bytes = table.weight.numel() * kernel.bytes_per_weight
        self._kernel = kernel
        blocks = torch.split(table.weight.detach(), kernel.rows)
        self._blocks: list[Block]
        if kernel.threads == 1:
            self._blocks = list(map(kernel.pack, blocks))
        else:
            with ThreadPoolExecutor(kernel.threads) as pool:
                self._blocks = list(pool.map(kernel.pack, blocks))
        self._kept: dict[int, Tensor] = {}

    def forward(self, token_ids: Tensor) -> Tensor:
        """The rows of these tokens: int64 [...] to [..., width] in the dtype of the table."""
        different, places = torch.unique(token_ids, return_inverse=True)
        tokens = different.tolist()
        by_block: dict[int, list[int]] = {}
        for token in tokens:
            if token not in self._kept:
                by_block.setdefault(token // self._kernel.rows, []).append(token)
        if len(self._kept) > _KEPT_ROWS:
            self._kept = {token: self._kept[token] for token in tokens if token in self._kept}
        for block, missing in by_block.items():
            rows = self._kernel.unpack(self._blocks[block])
            for token in missing:
                self._kept[token] = rows[token % self._kernel.rows].to(self.dtype, copy=True)
        return torch.stack([self._kept[token] for token in tokens])[places]

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: [..., width] to [..., rows]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        return self._kernel.multiply(flat, self._blocks).view(*hidden.shape[:-1], -1)
