"""The loss on the suffix, and its two averages."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paligemma2.errors import ConfigError

Average = Literal["example", "token"]


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
    if not 0.0 <= label_smoothing < 1.0:
        raise ConfigError(f"label_smoothing is {label_smoothing}", hint="give a number from 0 up to 1")
    log_probs = logits.float().log_softmax(dim=-1)
    if location_spread is None:
        gold = log_probs.gather(-1, targets[..., None])[..., 0]
    else:
        gold = _expected_log_prob(log_probs, targets, location_spread)
    if label_smoothing == 0.0:
        return -gold
    share = label_smoothing / (logits.shape[-1] - 1)
    others = log_probs.sum(dim=-1) - gold
    return -((1.0 - label_smoothing) * gold + share * others)


def _expected_log_prob(log_probs: Tensor, targets: Tensor, spread: LocationSpread) -> Tensor:
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
    gathered = log_probs.gather(-1, neighbours)
    return (gathered * weights).sum(dim=-1) / weights.sum(dim=-1)


def average_losses(losses: Tensor, weights: Tensor, *, average: Average = "example") -> Tensor:
    """The loss of a batch from the losses of its tokens.

    Args:
        losses: float32 [batch, seq].
        weights: float [batch, seq], 1 on suffix tokens (end token included), else 0.
        average: "example": mean over examples of the mean over their tokens (big_vision); "token": mean over
            all tokens of the batch (Hugging Face).

    Returns:
        A scalar.

    Raises:
        ConfigError: `average` is neither.
    """
    weighted = losses * weights
    if average == "example":
        return (weighted.sum(dim=-1) / weights.sum(dim=-1).clamp(min=1.0)).mean()
    if average == "token":
        return weighted.sum() / weights.sum().clamp(min=1.0)
    raise ConfigError(f"average {average!r} is unknown", hint="use 'example' or 'token'")


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
