"""Keys and values of the tokens so far, in memory reserved once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paligemma2.model.config import TextConfig
from paligemma2.model.prefix_mask import PrefixLayout


@dataclass
class KVCache:
    """Preallocated keys and values of a batch; every row has its own length.

    The first `num_rows` rows are in use. The next token of a row goes into the slot `lengths[row]`.

    Attributes:
        keys: [layers, rows, kv_heads, capacity, head_dim].
        values: the same shape.
        is_valid: bool [rows, capacity], False for padding and for slots not written yet.
        next_positions: int64 [rows], the position of the next token of each row.
        lengths: for each row in use, how many slots are taken, padding included.
    """

    keys: Tensor
    values: Tensor
    is_valid: Tensor
    next_positions: Tensor
    lengths: list[int]

    @classmethod
    def reserve(
        cls, config: TextConfig, rows: int, capacity: int, *, dtype: torch.dtype, device: torch.device
    ) -> "KVCache":
        """Memory for so many rows of so many tokens, none of which is in use."""
        shape = (config.num_layers, rows, config.num_kv_heads, capacity, config.head_dim)
        return cls(
            keys=torch.zeros(shape, dtype=dtype, device=device),
            values=torch.zeros(shape, dtype=dtype, device=device),
            is_valid=torch.zeros(rows, capacity, dtype=torch.bool, device=device),
            next_positions=torch.ones(rows, dtype=torch.int64, device=device),
            lengths=[],
        )

    @classmethod
    def for_prompts(
        cls, config: TextConfig, layout: PrefixLayout, max_new_tokens: int, dtype: torch.dtype
    ) -> "KVCache":
        """A cache to read these left-padded prompts into, with room for `max_new_tokens` more per row."""
        rows, seq = layout.segments.shape
        device = layout.segments.device
        cache = cls.reserve(config, rows, seq + max_new_tokens, dtype=dtype, device=device)
        cache.lengths = [0] * rows
        return cache

    @property
    def capacity(self) -> int:
        """Slots per row."""
        return self.is_valid.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows in use."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Slots taken in the longest row."""
        return max(self.lengths, default=0)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens; they count only after `hold` or `advance`.

        Args:
            layer: which decoder layer.
            keys: [rows in use, kv_heads, new, head_dim].
            values: the same shape.

        Returns:
            Two views [rows in use, kv_heads, longest + new, head_dim]; nothing is copied.
        """
        rows, new, longest = self.num_rows, keys.shape[2], self.longest
        end = longest + new
        pairs = ((self.keys[layer], keys), (self.values[layer], values))
        if min(self.lengths) == longest:
            for stored, written in pairs:
                stored[:rows, :, longest:end] = written
        else:
            slots = self._starts()[:, None] + torch.arange(new, device=keys.device)
            places = torch.arange(rows, device=keys.device)[:, None]
            for stored, written in pairs:
                stored.transpose(1, 2)[places, slots] = written.transpose(1, 2)
        return self.keys[layer, :rows, :, :end], self.values[layer, :rows, :, :end]

    def hold(self, layout: PrefixLayout) -> None:
        """Count the tokens of these prompts as stored, after every layer has written them."""
        rows, seq = layout.segments.shape
        self.lengths = [seq] * rows
        self.is_valid[:rows, :seq] = layout.is_valid
        self.next_positions[:rows] = layout.positions[:, -1] + 1

    def advance(self, new: int) -> None:
        """Count `new` more tokens of each row as stored, after every layer has written them."""
        for row, length in enumerate(self.lengths):
            self.is_valid[row, length : length + new] = True
        self.next_positions[: self.num_rows] += new
        self.lengths = [length + new for length in self.lengths]

    def visible(self, window: int | None, new: int = 1) -> Tensor:
        """What each of the next `new` tokens may see, itself included: bool [rows, 1, new, longest + new]."""
        slots = torch.arange(self.longest + new, device=self.is_valid.device)
        starts = self._starts()[:, None, None]
        distance = starts + torch.arange(new, device=slots.device)[:, None] - slots  # [rows, new, slots]
        visible = self.is_valid[: self.num_rows, None, : len(slots)] | (slots >= starts)
        visible = visible & (distance >= 0)
        if window is not None:
            visible &= distance < window
        return visible[:, None]

    def take(self, other: "KVCache", row: int) -> None:
        """Put a row of another cache, without its padding, behind the rows in use."""
        tokens = other.is_valid[row].nonzero()[:, 0]
        place, length = self.num_rows, len(tokens)
        start = int(tokens[0])  # padding is on the left alone
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[:, place, :, :length] = theirs[:, row, :, start : start + length]
        self.is_valid[place] = False
        self.is_valid[place, :length] = True
        self.next_positions[place] = other.next_positions[row]
        self.lengths.append(length)

    def drop(self, row: int) -> None:
        """Free a row; the last row in use moves into its place."""
        last = self.num_rows - 1
        length = self.lengths.pop()
        if row == last:
            return
        for stored in (self.keys, self.values):
            stored[:, row, :, :length] = stored[:, last, :, :length]
        self.is_valid[row] = self.is_valid[last]
        self.next_positions[row] = self.next_positions[last]
        self.lengths[row] = length

    def repeated(self, times: int) -> "KVCache":
        """A copy in which every row stands `times` times, one after the other (beams of one prompt)."""
        return self.copied([row for row in range(self.num_rows) for _ in range(times)])

    def copied(self, rows: Sequence[int]) -> "KVCache":
        """A new cache with these rows, of which one may come several times."""
        sources = list(rows)
        return KVCache(
            keys=self.keys[:, sources],
            values=self.values[:, sources],
            is_valid=self.is_valid[sources],
            next_positions=self.next_positions[sources],
            lengths=[self.lengths[row] for row in sources],
        )

    def reorder(self, sources: Sequence[int], start: int) -> None:
        """Let every row go on from what another row holds.

        Args:
            sources: for each row the row whose tokens it takes over; both must be of the same prompt and
                length.
            start: the first slot in which such rows differ; only slots from here on are copied.
        """
        moved = [row for row, source in enumerate(sources) if row != source]
        end = self.longest
        if not moved or start == end:
            return
        taken = [sources[row] for row in moved]
        for tensor in (self.keys, self.values):
            tensor[:, moved, :, start:end] = tensor[:, taken, :, start:end]

    def _starts(self) -> Tensor:
        """The next slot of each row in use, int64 [rows]."""
        return torch.tensor(self.lengths, device=self.is_valid.device)
