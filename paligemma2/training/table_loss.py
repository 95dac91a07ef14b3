"""Output layer and cross-entropy in one, so that the logits of all tokens never exist at once.

Some tokens at a time are multiplied with the table, some rows of it at a time. What the loss needs of the
logits is known after the first pass over the rows; in a second pass their gradient is worked out and at once
multiplied into those of the hidden states and the table (arXiv:2411.09009 does so in a kernel for GPUs).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paligemma2.model.restored_linear import RestoredTable
from paligemma2.training.loss import LocationSpread, check_label_smoothing, soft_targets

LOGIT_BYTES = 128 * 2**20
"""Of the logits that are kept between the two passes."""
BLOCK_ROWS = 4096
"""Of the table at a time, so that a block and its logits stay in a CPU's cache."""


def table_loss(
    hidden: Tensor,
    table: Tensor | RestoredTable,
    targets: Tensor,
    shares: Tensor,
    *,
    final_cap: float | None,
    label_smoothing: float = 0.0,
    location_spread: LocationSpread | None = None,
    logit_bytes: int = LOGIT_BYTES,
    block_rows: int = BLOCK_ROWS,
) -> Tensor:
    """The sum of the tokens' losses times `shares`, as `token_losses` of capped logits has them.

    Products are in the dtype of autocast, losses in float32 (float64 for float64). Gradients are computed
    along with the loss, if any is wanted.

    Args:
        hidden: [tokens, width].
        table: [vocab, width]; one of few bits is restored some rows at a time and gets no gradient.
        targets: int64 [tokens].
        shares: float [tokens], without gradient.
        final_cap: soft-cap of the logits, or None.
        label_smoothing: see `token_losses`.
        location_spread: see `token_losses`.
        logit_bytes: how large the logits of the tokens taken at a time may be, in the dtype of products.
        block_rows: rows of the table taken at a time.

    Returns:
        A scalar.

    Raises:
        ConfigError: `label_smoothing` is outside [0, 1).
    """
    check_label_smoothing(label_smoothing)
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    size = max(1, logit_bytes // (len(table) * dtype.itemsize))
    settings = _Settings(dtype, final_cap, label_smoothing, size, block_rows, torch.is_grad_enabled())
    ids, weights = soft_targets(targets, location_spread)
    with torch.autocast(kind, enabled=False):
        loss: Tensor = _TableLoss.apply(hidden, table, ids, weights, shares, settings)  # type: ignore[no-untyped-call]
    return loss


def tie(table: Tensor) -> tuple[Tensor, Tensor]:
    """A table of embeddings twice, to look rows up sparsely and for `table_loss`, with one gradient of both.

    Autograd would add the two up in a third table; here the rows looked up are added to what the loss gives.
    """
    looked_up, multiplied = _Tie.apply(table)  # type: ignore[no-untyped-call]
    return looked_up, multiplied


class _Tie(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor) -> tuple[Tensor, Tensor]:
        return table.view_as(table), table.view_as(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, looked_up: Tensor, multiplied: Tensor) -> Tensor:
        return multiplied.index_add_(0, looked_up._indices()[0], looked_up._values())


class _Settings(NamedTuple):
    dtype: torch.dtype
    cap: float | None
    smoothing: float
    chunk_tokens: int
    block_rows: int
    wants_gradients: bool


class _Tokens(NamedTuple):
    """Of the tokens of a chunk: `hidden` in the dtype of products, the rest in that of losses."""

    hidden: Tensor
    ids: Tensor
    weights: Tensor
    shares: Tensor


class _TableLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor | RestoredTable,
        ids: Tensor,
        weights: Tensor,
        shares: Tensor,
        settings: _Settings,
    ) -> Tensor:
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_hidden, needs_table = (settings.wants_gradients and ctx.needs_input_grad[i] for i in (0, 1))
        grad_hidden = torch.zeros_like(hidden, dtype=exact) if needs_hidden else None
        grad_table = None
        if needs_table:
            assert isinstance(table, Tensor)
            grad_table = torch.zeros_like(table)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        for start in range(0, len(hidden), settings.chunk_tokens):
            some = slice(start, start + settings.chunk_tokens)
            tokens = _Tokens(
                hidden[some].to(settings.dtype), ids[some], weights[some].to(exact), shares[some].to(exact)
            )
            products = [tokens.hidden @ rows.T for _, rows in _blocks(table, settings)]
            losses, log_totals = _losses(products, tokens, settings)
            loss += losses @ tokens.shares
            if needs_hidden or needs_table:
                part = None if grad_hidden is None else grad_hidden[some]
                _add_gradients(products, log_totals, tokens, table, settings, part, grad_table)
        ctx.gradients = (None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_table)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.gradients is not None, "a second way back through the same loss"
        gradients, ctx.gradients = ctx.gradients, None  # given away: the table's is gigabytes
        if grad.item() != 1.0:
            gradients = tuple(each if each is None else each.mul_(grad) for each in gradients)
        return (*gradients, None, None, None, None)


def _blocks(table: Tensor | RestoredTable, settings: _Settings) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the table in the dtype of products, and which they are."""
    for start in range(0, len(table), settings.block_rows):
        rows = slice(start, min(start + settings.block_rows, len(table)))
        yield rows, table[rows].to(settings.dtype)


def _losses(products: list[Tensor], tokens: _Tokens, settings: _Settings) -> tuple[Tensor, Tensor]:
    """The loss of each token, and the logarithm of the sum of its exponentiated logits, both [tokens]."""
    log_totals, first = [], 0
    gold, total = torch.zeros_like(tokens.shares), torch.zeros_like(tokens.shares)
    for product in products:
        logits = _squashed(product, tokens, settings)
        if settings.cap is not None:
            logits.mul_(settings.cap)
        places, inside = _places(tokens.ids, first, logits.shape[1])
        gold += (logits.gather(1, places) * inside * tokens.weights).sum(dim=1)
        if settings.smoothing:
            total += logits.sum(dim=1)
        log_totals.append(logits.logsumexp(dim=1))
        first += logits.shape[1]
    log_total = torch.stack(log_totals).logsumexp(dim=0)
    share = settings.smoothing / (first - 1)
    return log_total - (1.0 - settings.smoothing - share) * gold - share * total, log_total


def _add_gradients(
    products: list[Tensor],
    log_totals: Tensor,
    tokens: _Tokens,
    table: Tensor | RestoredTable,
    settings: _Settings,
    grad_hidden: Tensor | None,
    grad_table: Tensor | None,
) -> None:
    """Adds to the gradients what these tokens give; the products are used up."""
    share = settings.smoothing / (len(table) - 1)
    at_target = (1.0 - settings.smoothing - share) * tokens.weights * tokens.shares[:, None]
    for number, (rows, block) in enumerate(_blocks(table, settings)):
        squashed = _squashed(products[number], tokens, settings)
        products[number] = squashed.new_empty(0)
        cap = settings.cap
        logits = squashed if cap is None else squashed * cap
        gradient = logits.sub_(log_totals[:, None]).exp_().sub_(share).mul_(tokens.shares[:, None])
        places, inside = _places(tokens.ids, rows.start, gradient.shape[1])
        gradient.scatter_add_(1, places, -at_target * inside)
        if cap is not None:
            gradient.mul_(squashed.square_().neg_().add_(1.0))
        narrow = gradient.to(settings.dtype)
        if grad_hidden is not None:
            grad_hidden.add_(narrow @ block)
        if grad_table is not None:
            grad_table[rows].add_(narrow.T @ tokens.hidden)


def _squashed(product: Tensor, tokens: _Tokens, settings: _Settings) -> Tensor:
    """A new tensor in the dtype of losses: logits without a cap, `tanh(logits / cap)` with one."""
    logits = product.to(tokens.shares.dtype, copy=True)
    return logits if settings.cap is None else logits.div_(settings.cap).tanh_()


def _places(ids: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Where ids are among `count` rows from `first` on, and whether they are."""
    places = ids - first
    return places.clamp(0, count - 1), (places >= 0) & (places < count)
