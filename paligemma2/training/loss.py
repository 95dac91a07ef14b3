"""The loss on the suffix, and its two averages."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paligemma2.errors import ConfigError
from paligemma2.training.recipe import Average


@dataclass(frozen=True, kw_only=True)
class LocationSpread:
    """Soft targets for location tokens: a near miss costs less than a far one.

    Used for pre-training the small model only; the real recipe treats locations like any other token.

    Attributes:
        first_id: id of `<loc0000>`.
        num_locations: 1024.
        sigma: standard deviation of the target, in location steps.
    """

    first_id: int
    num_locations: int
    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ConfigError(f"the sigma of the locations is {self.sigma}", hint="give a number above zero")


def token_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    location_spread: LocationSpread | None = None,
) -> Tensor:
    """Cross-entropy of every token.

    Label smoothing puts `1 - a` on the target and `a / (vocab - 1)` on every other token, as big_vision does
    (PyTorch's own spreads `a / vocab` over all of them).

    Args:
        logits: float [..., vocab], computed in float32.
        targets: int64 [...], already shifted: `targets[i]` is what `logits[i]` should predict.
        label_smoothing: `a`, in [0, 1).
        location_spread: soft targets for location tokens, or None.

    Returns:
        float32 [...].

    Raises:
        ConfigError: `label_smoothing` is outside [0, 1).
    """
    check_label_smoothing(label_smoothing)
    log_probs = logits.float().log_softmax(dim=-1)
    ids, shares = soft_targets(targets, location_spread)
    gold = (log_probs.gather(-1, ids) * shares).sum(dim=-1)
    if label_smoothing == 0.0:
        return -gold
    share = label_smoothing / (logits.shape[-1] - 1)
    others = log_probs.sum(dim=-1) - gold
    return -((1.0 - label_smoothing) * gold + share * others)


def check_label_smoothing(label_smoothing: float) -> None:
    """Nothing, if it is in [0, 1).

    Raises:
        ConfigError: it is not.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ConfigError(f"label_smoothing is {label_smoothing}", hint="give a number from 0 up to 1")


def soft_targets(targets: Tensor, spread: LocationSpread | None) -> tuple[Tensor, Tensor]:
    """The tokens among which the probability of each target is shared out, and their shares.

    Args:
        targets: int64 [...].
        spread: of location tokens, or None.

    Returns:
        Ids, int64 [..., candidates], and float32 shares of the same shape, which sum to one; an id may stand
        there more than once.
    """
    if spread is None:
        return targets[..., None], torch.ones_like(targets, dtype=torch.float32)[..., None]
    reach = round(3 * spread.sigma)
    offsets = torch.arange(-reach, reach + 1, device=targets.device)
    first, last = spread.first_id, spread.first_id + spread.num_locations - 1
    is_location = (targets >= first) & (targets <= last)
    neighbours = targets[..., None] + offsets
    inside = (neighbours >= first) & (neighbours <= last)
    weights = torch.exp(-0.5 * (offsets / spread.sigma) ** 2) * inside
    only_target = (offsets == 0).to(weights.dtype).expand_as(weights)
    weights = torch.where(is_location[..., None], weights, only_target)
    neighbours = torch.where(is_location[..., None], neighbours.clamp(first, last), targets[..., None])
    return neighbours, weights / weights.sum(dim=-1, keepdim=True)


def loss_shares(weights: Tensor, segments: Tensor, *, average: Average = "example") -> Tensor:
    """By what to multiply the loss of each token, so that the sum is the loss of the batch.

    Args:
        weights: float [batch, seq], 1 on suffix tokens (end token included), else 0.
        segments: integer [batch, seq], the number of the example within its row; 0 is padding.
        average: "example": mean over examples of the mean over their tokens (big_vision); "token": mean over
            all tokens of the batch (Hugging Face).

    Returns:
        float [batch, seq].

    Raises:
        ConfigError: `average` is neither.
    """
    if average == "token":
        return weights / weights.sum().clamp(min=1.0)
    if average != "example":
        raise ConfigError(f"average {average!r} is unknown", hint="use 'example' or 'token'")
    stride = segments.max().to(torch.int64) + 1
    rows = torch.arange(len(segments), device=segments.device)[:, None]
    examples = (rows * stride + segments).flatten()
    _, examples = torch.unique(examples, return_inverse=True)
    sums = torch.zeros(len(examples), dtype=weights.dtype, device=weights.device)
    sums.index_add_(0, examples, weights.flatten())
    mean = weights / sums[examples].view_as(weights).clamp(min=1.0)
    return mean / count_examples(segments)


def count_examples(segments: Tensor) -> int:
    """How many examples rows hold: integer [batch, seq], 0 = padding."""
    begins = segments > 0
    begins[:, 1:] &= segments[:, 1:] != segments[:, :-1]
    return max(1, int(begins.sum()))


def average_losses(losses: Tensor, weights: Tensor, *, average: Average = "example") -> Tensor:
    """The loss of a batch with one example a row from the losses of its tokens, a scalar.

    Args:
        losses: float32 [batch, seq].
        weights: float [batch, seq], see `loss_shares`.
        average: see `loss_shares`.

    Raises:
        ConfigError: `average` is neither.
    """
    one_a_row = torch.ones_like(weights, dtype=torch.int64)
    return (losses * loss_shares(weights, one_a_row, average=average)).sum()


def suffix_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    label_smoothing: float = 0.0,
    average: Average = "example",
) -> Tensor:
    """`token_losses` and `average_losses` in one: logits [batch, seq, vocab], the rest [batch, seq]."""
    losses = token_losses(logits, targets, label_smoothing=label_smoothing)
    return average_losses(losses, weights, average=average)
