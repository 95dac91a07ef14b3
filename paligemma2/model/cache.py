"""Keys and values of the tokens so far, in memory reserved once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paligemma2.model.config import TextConfig
from paligemma2.model.prefix_mask import PrefixLayout


@dataclass
class KVCache:
    """Preallocated keys and values for a batch of left-padded prompts.

    Because prompts are padded on the left, the next token of every row goes into the same slot.

    Attributes:
        keys: [layers, batch, kv_heads, capacity, head_dim].
        values: the same shape.
        is_valid: bool [batch, capacity], False for padding and for slots not written yet.
        next_positions: int64 [batch], the position of the next token of each row.
        length: slots in use.
    """

    keys: Tensor
    values: Tensor
    is_valid: Tensor
    next_positions: Tensor
    length: int

    @classmethod
    def for_prompts(
        cls, config: TextConfig, layout: PrefixLayout, max_new_tokens: int, dtype: torch.dtype
    ) -> "KVCache":
        """An empty cache with room for these prompts and `max_new_tokens` more per row."""
        batch, seq = layout.segments.shape
        device = layout.segments.device
        shape = (config.num_layers, batch, config.num_kv_heads, seq + max_new_tokens, config.head_dim)
        is_valid = torch.zeros(batch, seq + max_new_tokens, dtype=torch.bool, device=device)
        is_valid[:, :seq] = layout.is_valid
        return cls(
            keys=torch.zeros(shape, dtype=dtype, device=device),
            values=torch.zeros(shape, dtype=dtype, device=device),
            is_valid=is_valid,
            next_positions=layout.positions[:, -1] + 1,
            length=0,
        )

    @property
    def capacity(self) -> int:
        """Slots in all."""
        return self.is_valid.shape[1]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens; returns all stored ones including them.

        Args:
            layer: which decoder layer.
            keys: [batch, kv_heads, new, head_dim].
            values: the same shape.

        Returns:
            Two views [batch, kv_heads, length + new, head_dim]; nothing is copied.
        """
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def repeated(self, times: int) -> "KVCache":
        """A copy in which every row stands `times` times, one after the other (beams of one prompt)."""
        return KVCache(
            keys=self.keys.repeat_interleave(times, dim=1),
            values=self.values.repeat_interleave(times, dim=1),
            is_valid=self.is_valid.repeat_interleave(times, dim=0),
            next_positions=self.next_positions.repeat_interleave(times),
            length=self.length,
        )

    def reorder(self, sources: Sequence[int], start: int) -> None:
        """Let every row go on from what another row holds.

        Args:
            sources: for each row the row whose tokens it takes over; both must be of the same prompt.
            start: the first slot in which such rows differ; only slots from here on are copied.
        """
        moved = [row for row, source in enumerate(sources) if row != source]
        if not moved or start == self.length:
            return
        taken = [sources[row] for row in moved]
        for tensor in (self.keys, self.values):
            tensor[:, moved, :, start : self.length] = tensor[:, taken, :, start : self.length]

    def advance(self, new: int) -> None:
        """Count `new` tokens as stored, after every layer has written them."""
        self.length += new

    def visible(self, window: int | None, new: int = 1) -> Tensor:
        """Bool [batch, 1, new, length + new]: what each of the next `new` tokens may see, itself included."""
        end = self.length + new
        visible = self.is_valid[:, None, :end].repeat(1, new, 1)
        slots = torch.arange(end, device=visible.device)
        distance = slots[self.length :, None] - slots
        visible[..., self.length :] = distance[:, self.length :] >= 0
        if window is not None:
            visible &= distance < window
        return visible[:, None]
