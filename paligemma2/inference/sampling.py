"""Choosing the next token from its logits: the most likely, or one drawn at random."""

import hashlib
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from paligemma2.model.config import ModelConfig
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding


def most_likely(logits: Tensor) -> Tensor:
    """Greedy choice: float32 [batch, vocab] to int64 [batch]."""
    return logits.argmax(dim=-1)


def sample(
    logits: Tensor, draws: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Tensor:
    """Tokens drawn from the softmax of `logits / temperature`.

    Args:
        logits: float32 [batch, vocab]; -inf is never drawn.
        draws: float64 [batch], uniform in [0, 1): each picks its token by the cumulative distribution. They
            may be on the CPU.
        temperature: above 0.
        top_k: the tokens below the one with this rank are left out first; those equal to it stay.
        top_p: the tokens below the one at which the sorted probabilities reach this sum are left out
            (big_vision's `nucleus_sampling`).

    Returns:
        int64 [batch].
    """
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = (logits / temperature).softmax(dim=-1)
    if top_p < 1:
        ranked = probabilities.sort(dim=-1, descending=True).values
        num_before = (ranked.cumsum(dim=-1) < top_p).sum(dim=-1, keepdim=True)
        least = ranked.gather(1, num_before.clamp(max=logits.shape[1] - 1))
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    exact = device_for_float64(logits.device)
    cumulative = probabilities.to(exact).double().cumsum(dim=-1)
    # Strictly below the total, so that a token without probability is never found.
    limits = draws.to(exact)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, limits, right=True)[:, 0].to(logits.device)


def device_for_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU instead of one without float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def choose(logits: Tensor, decodings: Sequence[Decoding], streams: Sequence[random.Random | None]) -> Tensor:
    """The next token of each row, as its own settings say.

    Args:
        logits: float32 [batch, vocab]; -inf is never chosen.
        decodings: for each row its settings.
        streams: for each row that samples its random numbers, of which it takes the next; else None.

    Returns:
        int64 [batch].
    """
    alike: dict[tuple[bool, float, int | None, float], list[int]] = {}
    for row, each in enumerate(decodings):
        alike.setdefault((each.method == "sample", each.temperature, each.top_k, each.top_p), []).append(row)
    chosen = torch.empty(len(decodings), dtype=torch.int64, device=logits.device)
    for (is_sampled, temperature, top_k, top_p), rows in alike.items():
        some = logits if len(rows) == len(decodings) else logits[rows]
        if is_sampled:
            draws = draw([stream for row in rows if (stream := streams[row])])
            chosen[rows] = sample(some, draws, temperature=temperature, top_k=top_k, top_p=top_p)
        else:
            chosen[rows] = most_likely(some)
    return chosen


def random_streams(
    inputs: ModelInputs, config: ModelConfig, seeds: Sequence[int | None]
) -> list[random.Random | None]:
    """For each row with a seed its own random numbers, which depend on its prompt, pictures and seed."""
    rows = zip(seeds, inputs.token_ids, inputs.layout.is_valid, inputs.pictures(config), strict=True)
    return [
        None if seed is None else random.Random(_digest(seed, ids[valid], inputs.pixel_values[index]))
        for seed, ids, valid, index in rows
    ]


def draw(streams: list[random.Random]) -> Tensor:
    """The next number of every stream, float64 [batch] in [0, 1), on the CPU."""
    return torch.tensor([stream.random() for stream in streams], dtype=torch.float64)


def _digest(seed: int, *tensors: Tensor) -> bytes:
    digest = hashlib.blake2b(str(seed).encode())
    for tensor in tensors:
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()
