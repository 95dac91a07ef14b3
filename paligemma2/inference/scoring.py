"""How likely the model finds given answers, from one reading of the prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import check_adapters, read_prompts
from paligemma2.model.cache import KVCache
from paligemma2.model.lora import using_adapters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import finish
from paligemma2.processing.processor import ModelInputs


@torch.inference_mode()
def score_suffixes(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    suffixes: Sequence[Sequence[int]],
    *,
    batch_size: int,
    images: ImageTokens | None = None,
    adapter: str | None = None,
) -> list[tuple[float, ...]]:
    """The natural logarithms of the probability of each token of each suffix after one prompt.

    Probabilities are the model's own among the tokens that may be produced, as in `engine.Token`. The prompt
    is read once; of a suffix the last token is only predicted, never read.

    Args:
        model: in evaluation mode.
        inputs: one prompt.
        suffixes: token ids, the end token included; none is empty.
        batch_size: suffixes that are read at once.
        images: encodes pictures; a new one by default, which knows none.
        adapter: of the model, that prompt and suffixes go through.

    Raises:
        InputError: there is nothing to score, `batch_size` is below 1, a suffix does not fit the context, or
            the model has no such adapter.
    """
    if not suffixes:
        raise InputError("there are no suffixes to score", hint="give one or more")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}", hint="give at least 1")
    check_adapters(model, [adapter], inputs)
    longest = max(map(len, suffixes))
    first, cache = finish(read_prompts(model, images or ImageTokens(model), inputs, longest, [adapter]))
    scores: list[tuple[float, ...]] = []
    with using_adapters([adapter], model.device):
        for start in range(0, len(suffixes), batch_size):
            scores += _score(model, first, cache, suffixes[start : start + batch_size])
    return scores


def _score(
    model: PaliGemma2Model, first: Tensor, cache: KVCache, suffixes: Sequence[Sequence[int]]
) -> list[tuple[float, ...]]:
    longest = max(map(len, suffixes))
    padded = [[*suffix, *[model.config.pad_token_id] * (longest - len(suffix))] for suffix in suffixes]
    token_ids = torch.tensor(padded, device=first.device)
    logits = first[:, None].expand(len(suffixes), -1, -1)
    if longest > 1:
        logits = torch.cat((logits, model.extend(token_ids[:, :-1], cache.repeated(len(suffixes)))), dim=1)
    offered = logits[..., : model.config.num_text_rows]
    log_probs = offered.gather(2, token_ids[..., None])[..., 0] - offered.logsumexp(dim=-1)
    rows = zip(log_probs.tolist(), suffixes, strict=True)
    return [tuple(row[: len(suffix)]) for row, suffix in rows]
