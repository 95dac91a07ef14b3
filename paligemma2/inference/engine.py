"""Decoding: prefill, then one token at a time through a preallocated cache."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.inference.beam import Hypothesis, beam_search
from paligemma2.inference.constraints import Constraint, Progress
from paligemma2.inference.sampling import draw, most_likely, random_streams, sample
from paligemma2.model.cache import KVCache
from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding, DecodingMethod

_METHODS = get_args(DecodingMethod)
_Choose = Callable[[Tensor], Tensor]
"""Logits of the tokens that may be produced, float32 [batch, text rows], to the chosen ids, int64 [batch]."""


HasStopped: TypeAlias = Callable[[int], bool]
"""Whether a row, given by its number, is to go on no further than the tokens that were yielded."""


class Token(NamedTuple):
    """A decoded token, and the natural logarithms of its probability and of all location tokens' together.

    Probabilities are the model's own (capped logits, no temperature, no constraint) among the tokens that
    may be produced: `<image>` and the filler rows behind it have none.
    """

    id: int
    log_prob: float
    location_log_prob: float


@torch.inference_mode()
def decode(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    decoding: Decoding,
    *,
    constraints: Sequence[Constraint | None] | None = None,
    has_stopped: HasStopped | None = None,
) -> Iterator[list[Token | None]]:
    """The tokens of a batch as they are decoded; with beams, when all are known.

    `<image>` and the filler rows behind it are never chosen. Decoding ends when every row has ended or
    `max_new_tokens` have been made.

    Args:
        model: in evaluation mode.
        inputs: prompts padded on the left.
        decoding: how tokens are chosen.
        constraints: for each row the grammar that its answer must keep to, or None.
        has_stopped: asked after each token whether a row is to end with it; not with beams.

    Yields:
        For each row the new token (the end token included), or None if the row had ended before.

    Raises:
        InputError: a setting is out of range or belongs to another method; prompt and `max_new_tokens` do not
            fit into the model's context; the constraints are not one per row, or too long.
    """
    check_decoding(decoding)
    grammars = _checked(constraints, len(inputs.ids))
    choose = _chooser(inputs, decoding, model.config)
    logits, cache = read_prompts(model, inputs, decoding.max_new_tokens)
    if decoding.method == "beam":
        yield from _in_steps(beam_search(model, logits, cache, decoding, grammars))
    else:
        yield from _step_by_step(model, logits, cache, decoding, choose, grammars, has_stopped)


def read_prompts(model: PaliGemma2Model, inputs: ModelInputs, max_new_tokens: int) -> tuple[Tensor, KVCache]:
    """Encode each picture once and read the prompts; see `PaliGemma2Model.prefill` for what comes back.

    Raises:
        InputError: prompt and `max_new_tokens` do not fit into the model's context.
    """
    _check_room(model, inputs, max_new_tokens)
    inputs = inputs.to(model.device)
    image_tokens = model.encode_images(inputs.pixel_values)[inputs.image_index]
    return model.prefill(inputs.token_ids, image_tokens, inputs.layout, max_new_tokens)


def check_decoding(decoding: Decoding) -> None:
    """Nothing, if the settings make sense.

    Raises:
        InputError: a setting is out of range, or belongs to another method.
    """
    ranges = {
        "max_new_tokens": (decoding.max_new_tokens >= 1, "give at least 1"),
        "method": (decoding.method in _METHODS, f"use one of {', '.join(_METHODS)}"),
        "temperature": (0 < decoding.temperature < math.inf, "give a number above 0, or method='greedy'"),
        "top_k": (decoding.top_k is None or decoding.top_k >= 1, "give at least 1, or None"),
        "top_p": (0 < decoding.top_p <= 1, "give a probability above 0; 1 leaves no token out"),
        "stop": (_are_texts(decoding.stop), "give a tuple of texts of at least one character"),
        "beams": (decoding.beams >= 1, "give at least 1"),
        "length_penalty": (0 <= decoding.length_penalty < math.inf, "give 0 or more"),
    }
    for name, (is_right, hint) in ranges.items():
        if not is_right:
            raise InputError(f"{name} is {getattr(decoding, name)!r}", hint=hint)
    for name, methods in _USED_BY.items():
        value = getattr(decoding, name)
        if decoding.method not in methods and value != getattr(Decoding, name):
            raise InputError(
                f"{name} is {value!r}, which the method {decoding.method!r} does not use",
                hint=f"leave {name} out, or give method={' or '.join(map(repr, methods))}",
            )


_USED_BY: dict[str, tuple[DecodingMethod, ...]] = {
    **dict.fromkeys(("temperature", "top_k", "top_p", "seed"), ("sample",)),
    **dict.fromkeys(("beams", "length_penalty"), ("beam",)),
    "stop": ("greedy", "sample"),
}


def _are_texts(stop: Sequence[str]) -> bool:
    return not isinstance(stop, str) and all(isinstance(text, str) and text for text in stop)


def _step_by_step(
    model: PaliGemma2Model,
    logits: Tensor,
    cache: KVCache,
    decoding: Decoding,
    choose: _Choose,
    grammars: Sequence[Constraint | None],
    has_stopped: HasStopped | None,
) -> Iterator[list[Token | None]]:
    end = model.config.eos_token_id
    progress = Progress(grammars, decoding.max_new_tokens, end)
    has_ended = torch.zeros(len(grammars), dtype=torch.bool, device=logits.device)
    for count in range(1, decoding.max_new_tokens + 1):
        offered = logits[:, : model.config.num_text_rows]
        chosen = choose(progress.restrict(offered)).masked_fill(has_ended, end)
        tokens = _tokens(offered, chosen, has_ended, model.config.location_rows)
        yield tokens
        has_ended = has_ended | (chosen == end)
        if has_stopped is not None:
            stopped = [has_stopped(row) for row in range(len(tokens))]
            has_ended = has_ended | torch.tensor(stopped, device=has_ended.device)
        if count == decoding.max_new_tokens or bool(has_ended.all()):
            return
        progress.advance([None if token is None else token.id for token in tokens])
        logits = model.step(chosen, cache)


def _tokens(logits: Tensor, chosen: Tensor, has_ended: Tensor, location_rows: slice) -> list[Token | None]:
    total = logits.logsumexp(dim=-1)
    log_probs = logits.gather(1, chosen[:, None])[:, 0] - total
    locations = logits[:, location_rows].logsumexp(dim=-1) - total
    columns = (chosen.tolist(), log_probs.tolist(), locations.tolist())
    rows = zip(zip(*columns, strict=True), has_ended.tolist(), strict=True)
    return [None if ended else Token(*token) for token, ended in rows]


def _in_steps(answers: Sequence[Hypothesis]) -> Iterator[list[Token | None]]:
    rows = [map(Token, answer.ids, answer.log_probs, answer.location_log_probs) for answer in answers]
    return map(list, itertools.zip_longest(*rows))


def _chooser(inputs: ModelInputs, decoding: Decoding, config: ModelConfig) -> _Choose:
    if decoding.method != "sample":
        return most_likely
    streams = random_streams(inputs, config, decoding.seed)

    def choose(logits: Tensor) -> Tensor:
        draws = draw(streams, logits.device)
        return sample(
            logits, draws, temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p
        )

    return choose


def _checked(constraints: Sequence[Constraint | None] | None, num_rows: int) -> Sequence[Constraint | None]:
    if constraints is None:
        return [None] * num_rows
    if len(constraints) != num_rows:
        raise InputError(
            f"{len(constraints)} constraints for {num_rows} prompts",
            hint="give one per prompt, None for a prompt without",
        )
    return constraints


def _check_room(model: PaliGemma2Model, inputs: ModelInputs, max_new_tokens: int) -> None:
    room = model.config.text.max_positions - inputs.token_ids.shape[1]
    if max_new_tokens > room:
        raise InputError(
            f"a prompt of {inputs.token_ids.shape[1]} tokens leaves room for {room} of "
            f"{model.config.text.max_positions}, max_new_tokens is {max_new_tokens}",
            hint=f"give max_new_tokens={room} or less" if room > 0 else "shorten the prompt",
        )
