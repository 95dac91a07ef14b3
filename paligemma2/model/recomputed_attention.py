"""Attention for training: keeps queries, keys and values, and computes the weights again to go back.

Some rows or queries are taken at a time, so that weights never exist for all of them; of packed rows each
example is taken by itself, so that nothing is computed between examples, or for padding.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paligemma2.model.prefix_mask import Span
from paligemma2.model.recomputed import exact_dtype, product_dtype

CHUNK_BYTES = {"cpu": 8 * 2**20}
"""Of weights in float32 at a time, by the kind of device: what stays in a CPU's cache."""
_OTHER_CHUNK_BYTES = 256 * 2**20


def recomputed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor | None,
    spans: Sequence[Span] | None = None,
    wanted: Sequence[Span] | None = None,
    *,
    scale: float,
    cap: float | None,
) -> Tensor:
    """What `grouped_attention` gives, in the dtype of products.

    Args:
        q: [batch, heads, seq, head_dim]; with `wanted` [1, heads, all wanted tokens, head_dim].
        k: [batch, kv_heads, seq, head_dim].
        v: [batch, kv_heads, seq, head_dim].
        visible: bool [batch, 1, seq, seq], or None if every query sees every key.
        spans: where the examples are, of which none sees another; zeros come out elsewhere. None takes whole
            rows.
        wanted: the part of each of `spans` whose tokens are asked for, in the same order.
        scale: factor on the logits before the cap.
        cap: soft-cap on the scaled logits, before the mask.

    Returns:
        [batch, seq, heads * head_dim], or [1, all wanted tokens, heads * head_dim].
    """
    pieces = tuple(_pieces(q, k, spans, wanted))
    dtype = product_dtype(q)
    with torch.autocast(q.device.type, enabled=False):
        attended: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            q.to(dtype), k.to(dtype), v.to(dtype), visible, pieces, scale, cap
        )
    return attended


class _Piece(NamedTuple):
    """What is taken at a time: some queries, the keys that they may see, and where the mask has both."""

    query_rows: slice
    queries: slice
    rows: slice
    keys: slice
    mask_queries: slice

    def seen(self, visible: Tensor | None) -> Tensor | None:
        """[rows, 1, 1, queries, keys]."""
        return None if visible is None else visible[self.rows, :, None, self.mask_queries, self.keys]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        visible: Tensor | None,
        pieces: tuple[_Piece, ...],
        scale: float,
        cap: float | None,
    ) -> Tensor:
        batch, heads, seq, head_dim = q.shape
        attended = q.new_zeros(batch, seq, heads, head_dim)
        for piece in pieces:
            some = _grouped(q[piece.query_rows, :, piece.queries], k.shape[1])
            weights, _ = _weights(some, k[piece.rows, :, piece.keys], piece.seen(visible), scale, cap)
            part = weights.to(v.dtype) @ v[piece.rows, :, piece.keys]
            attended[piece.query_rows, piece.queries] = _ungrouped(part, heads).transpose(1, 2)
        ctx.save_for_backward(q, k, v, visible)
        ctx.pieces, ctx.scale, ctx.cap = pieces, scale, cap
        return attended.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, visible = ctx.saved_tensors
        heads, kv_heads = q.shape[1], k.shape[1]
        grad = grad.reshape(*grad.shape[:2], heads, -1).transpose(1, 2)
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = (torch.zeros_like(each, dtype=exact_dtype(each)) for each in (k, v))
        for piece in ctx.pieces:
            query_rows, queries, rows, keys, _ = piece
            some, some_grad = (_grouped(each[query_rows, :, queries], kv_heads) for each in (q, grad))
            some_k, some_v = k[rows, :, keys], v[rows, :, keys]
            weights, squashed = _weights(some, some_k, piece.seen(visible), ctx.scale, ctx.cap)
            grad_v[rows, :, keys] += weights.to(v.dtype).transpose(2, 3) @ some_grad
            grad_weights = (some_grad @ some_v.transpose(2, 3)).to(weights.dtype)
            logits = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            if squashed is not None:
                logits.mul_(squashed.square_().neg_().add_(1.0))
            products = logits.mul_(ctx.scale).to(q.dtype)
            grad_q[query_rows, :, queries] = _ungrouped(products @ some_k, heads)
            grad_k[rows, :, keys] += products.transpose(2, 3) @ some
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None, None


def _pieces(
    q: Tensor, k: Tensor, spans: Sequence[Span] | None, wanted: Sequence[Span] | None
) -> Iterator[_Piece]:
    heads, batch, seq = q.shape[1], len(k), k.shape[2]
    limit = CHUNK_BYTES.get(q.device.type, _OTHER_CHUNK_BYTES) // (4 * heads)
    if spans is None and seq * seq <= limit:
        size, whole = limit // (seq * seq), slice(0, seq)
        for first in range(0, batch, size):
            some = slice(first, first + size)
            yield _Piece(some, whole, some, whole, whole)
        return
    if spans is None:
        spans = [Span(row, 0, seq) for row in range(batch)]
    before = 0  # wanted tokens of the examples so far
    for span, asked in zip(spans, spans if wanted is None else wanted, strict=True):
        rows, keys = slice(span.row, span.row + 1), slice(span.start, span.stop)
        query_rows, shift = (rows, 0) if wanted is None else (slice(0, 1), before - asked.start)
        size = max(1, limit // (span.stop - span.start))
        for first in range(asked.start, asked.stop, size):
            last = min(first + size, asked.stop)
            yield _Piece(query_rows, slice(first + shift, last + shift), rows, keys, slice(first, last))
        before += asked.stop - asked.start


def _weights(
    q: Tensor, k: Tensor, seen: Tensor | None, scale: float, cap: float | None
) -> tuple[Tensor, Tensor | None]:
    """[rows, kv_heads, group * queries, keys], exact; and the tanh of the soft-cap, if there is one."""
    logits = (q @ k.transpose(2, 3)).to(exact_dtype(q))
    squashed = None
    if cap is None:
        logits.mul_(scale)
    else:
        squashed = logits.mul_(scale / cap).tanh_()
        logits = squashed * cap
    if seen is not None:
        by_head = logits.view(*logits.shape[:2], -1, seen.shape[3], k.shape[2])
        # A finite minimum: a padding query sees nothing, and -inf would turn its row into NaN.
        by_head.masked_fill_(~seen, torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1), squashed


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """[rows, heads, queries, head_dim] to [rows, kv_heads, group * queries, head_dim]."""
    return x.reshape(x.shape[0], kv_heads, -1, x.shape[-1])


def _ungrouped(x: Tensor, heads: int) -> Tensor:
    """The inverse of `_grouped`."""
    return x.view(x.shape[0], heads, -1, x.shape[-1])
