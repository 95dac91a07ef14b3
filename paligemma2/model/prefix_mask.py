"""Who may see whom: the only code that knows the prefix-LM mask.

The rule (big_vision `models/proj/paligemma/paligemma.py`, PaliGemma arXiv:2407.07726 section 3.2): image,
prefix and separator of an example all see each other; the suffix sees them and itself causally; nobody sees
padding; packed examples ("segments") do not see each other.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paligemma2.errors import InputError


class Span(NamedTuple):
    """Tokens of a row that stand next to each other: from `start` up to but not including `stop`."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What training knows of the examples in a batch, beside who may see whom.

    Attributes:
        spans: where they are, if each is to be computed by itself; None computes whole rows.
        wanted: the part of each of `spans` whose hidden states are asked for; None asks for all tokens.
        places: int64 [wanted tokens], where these stand in the flattened batch.
    """

    spans: tuple[Span, ...] | None = None
    wanted: tuple[Span, ...] | None = None
    places: Tensor | None = None

    def wanted_of(self, x: Tensor) -> Tensor:
        """[batch, seq, width] to [1, wanted tokens, width], or as it is if all are wanted."""
        return x if self.places is None else x.flatten(0, 1)[self.places][None]

    def to(self, device: torch.device | str) -> "Examples":
        """The same on another device."""
        return replace(self, places=None if self.places is None else self.places.to(device))

    def unasked(self) -> "Examples":
        """The same without a wish: packed rows example by example, others as a whole."""
        is_packed = self.spans is not None and len({span.row for span in self.spans}) < len(self.spans)
        return Examples(spans=self.spans if is_packed else None)


@dataclass(frozen=True)
class PrefixLayout:
    """The roles of the tokens in a batch.

    Attributes:
        segments: int32 [batch, seq], 0 for padding, 1.. for the example that a token belongs to. Tokens of
            one example stand next to each other.
        is_prefix: bool [batch, seq], True for image, prefix and separator tokens, False for the suffix.
        positions: int64 [batch, seq], 1-based within the example as in Hugging Face's `generate` (rotary
            positions are relative, so big_vision's 0-based ones give the same result); padding has 1.
    """

    segments: Tensor
    is_prefix: Tensor
    positions: Tensor

    @classmethod
    def from_segments(cls, segments: Tensor, is_prefix: Tensor) -> "PrefixLayout":
        """The layout of rows that may hold several examples each.

        Args:
            segments: integer [batch, seq], 0 = padding.
            is_prefix: bool [batch, seq].

        Raises:
            InputError: the shapes differ.
        """
        if segments.shape != is_prefix.shape or segments.dim() != 2:
            raise InputError(
                f"segments {tuple(segments.shape)} and is_prefix {tuple(is_prefix.shape)} must both be "
                "[batch, seq]",
                hint="give one segment number and one flag per token",
            )
        index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
        begins = torch.ones_like(segments, dtype=torch.bool)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        start = torch.where(begins, index, torch.zeros_like(index)).cummax(dim=1).values
        positions = torch.where(segments > 0, index - start + 1, torch.ones_like(index))
        return cls(segments.to(torch.int32), is_prefix.bool() & (segments > 0), positions)

    @classmethod
    def from_flags(cls, is_valid: Tensor, is_prefix: Tensor) -> "PrefixLayout":
        """The layout of rows with one example each, padded left or right.

        Args:
            is_valid: bool [batch, seq], False for padding.
            is_prefix: bool [batch, seq].
        """
        return cls.from_segments(is_valid.to(torch.int32), is_prefix)

    @property
    def is_valid(self) -> Tensor:
        """Bool [batch, seq], False for padding."""
        return self.segments > 0

    def dense(self, window: int | None = None) -> Tensor:
        """Bool [batch, 1, seq, seq]: may the query (third) see the key (fourth dimension)?

        Args:
            window: how many keys a suffix token sees, itself included (Hugging Face's sliding layers; the
                prefix block is never cut), or None for no window (big_vision).

        Rows of padding see nothing: fill masked logits with a finite minimum, not with -inf.
        """
        seq = self.segments.shape[1]
        index = torch.arange(seq, device=self.segments.device)
        # Compared, not subtracted: differences of 4096 tokens would be 134 MB.
        causal = index[:, None] >= index[None, :]
        if window is not None:
            causal &= (index - window)[:, None] < index[None, :]
        both_prefix = self.is_prefix[:, :, None] & self.is_prefix[:, None, :]
        same_segment = self.segments[:, :, None] == self.segments[:, None, :]
        visible = (both_prefix | causal) & same_segment & self.is_valid[:, None, :]
        return visible[:, None]

    def visible(self, window: int | None = None) -> Tensor | None:
        """`dense`, or None where everybody sees everybody: one whole prefix a row, without padding."""
        if self.is_plain:
            return None
        return self.dense(window)

    @cached_property
    def is_plain(self) -> bool:
        """Whether all tokens are of one prefix a row."""
        return bool((self.is_prefix & (self.segments == self.segments[:, :1])).all())

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Where the examples are, row by row and from left to right; what is in none is padding."""
        edged = F.pad(self.segments, (1, 1))
        is_edge = edged[:, 1:] != edged[:, :-1]
        begins = (is_edge[:, :-1] & (self.segments > 0)).nonzero().tolist()
        ends = (is_edge[:, 1:] & (self.segments > 0)).nonzero().tolist()
        return tuple(Span(row, start, last + 1) for (row, start), (_, last) in zip(begins, ends, strict=True))

    def examples(self, is_wanted: Tensor | None = None) -> Examples:
        """Where the examples are, and which of their tokens are wanted.

        Args:
            is_wanted: bool [batch, seq], or None for all. What lies between two wanted tokens of an example
                counts as wanted too.
        """
        if is_wanted is None:
            return Examples(spans=self.spans)
        by_row = [row.nonzero()[:, 0].tolist() for row in is_wanted]
        wanted = []
        for row, start, stop in self.spans:
            here = [place for place in by_row[row] if start <= place < stop]
            wanted.append(Span(row, here[0], here[-1] + 1) if here else Span(row, start, start))
        seq = self.segments.shape[1]
        flat = [row * seq + place for row, start, stop in wanted for place in range(start, stop)]
        places = torch.tensor(flat, dtype=torch.int64, device=self.segments.device)
        return Examples(spans=self.spans, wanted=tuple(wanted), places=places)

    def to(self, device: torch.device | str) -> "PrefixLayout":
        """The same layout on another device."""
        return PrefixLayout(self.segments.to(device), self.is_prefix.to(device), self.positions.to(device))
