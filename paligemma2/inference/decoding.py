"""Decoding a batch of prompts, by whatever method its settings name."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, get_args

import torch

from paligemma2.errors import InputError
from paligemma2.inference.beam import beam_search
from paligemma2.inference.constraints import Constraint
from paligemma2.inference.engine import Engine, Token, read_prompts, select_rows
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import finish
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import BeamRule, Decoding, DecodingMethod

_METHODS, _BEAM_RULES = get_args(DecodingMethod), get_args(BeamRule)
HasStopped: TypeAlias = Callable[[int], bool]
"""Whether a row, given by its number, is to go on no further than the tokens that were yielded."""


def decode(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    decoding: Decoding,
    *,
    images: ImageTokens | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    has_stopped: HasStopped | None = None,
) -> Iterator[list[Token | None]]:
    """The tokens of a batch as they are decoded; with beams or the best of several, when all are known.

    `<image>` and the filler rows behind it are never chosen. Decoding ends when every row has ended or
    `max_new_tokens` have been made.

    Args:
        model: in evaluation mode.
        inputs: prompts padded on the left.
        decoding: how tokens are chosen.
        images: encodes pictures; a new one by default, which knows none.
        constraints: for each row the grammar that its answer must keep to, or None.
        has_stopped: asked after each token whether a row is to end with it; not with beams or the best of
            several.

    Yields:
        For each row the new token (the end token included), or None if the row had ended before.

    Raises:
        InputError: a setting is out of range or belongs to another method; prompt and `max_new_tokens` do not
            fit into the model's context; the constraints are not one per row, or too long.
    """
    check_decoding(decoding)
    images = images or ImageTokens(model)
    grammars = _checked(constraints, len(inputs.ids))
    if decoding.method == "beam":
        yield from _in_steps(_beams(model, images, inputs, decoding, grammars))
    elif decoding.best_of > 1:
        yield from _in_steps(_best_of(model, images, inputs, decoding, grammars))
    else:
        decodings = [replace(decoding, stop=())] * len(grammars)
        yield from _step_by_step(model, images, inputs, decodings, grammars, has_stopped)


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
        "best_of": (decoding.best_of >= 1, "give at least 1"),
        "top_log_probs": (decoding.top_log_probs >= 0, "give 0 or more"),
        "beam_rule": (decoding.beam_rule in _BEAM_RULES, f"use one of {', '.join(_BEAM_RULES)}"),
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
    if decoding.beam_rule == "big_vision" and decoding.length_penalty:
        raise InputError(
            f"length_penalty is {decoding.length_penalty}, which the rule of big_vision does not know",
            hint="leave it out, or give beam_rule='hf'",
        )
    if decoding.best_of > 1 and decoding.stop:
        raise InputError(
            f"stop is {decoding.stop!r} with best_of={decoding.best_of}",
            hint="leave one of them out: answers are compared whole",
        )


_USED_BY: dict[str, tuple[DecodingMethod, ...]] = {
    **dict.fromkeys(("temperature", "top_k", "top_p", "seed", "best_of"), ("sample",)),
    **dict.fromkeys(("beams", "beam_rule", "length_penalty"), ("beam",)),
    **dict.fromkeys(("stop", "top_log_probs"), ("greedy", "sample")),
}


def _are_texts(stop: Sequence[str]) -> bool:
    return not isinstance(stop, str) and all(isinstance(text, str) and text for text in stop)


def _step_by_step(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    decodings: Sequence[Decoding],
    grammars: Sequence[Constraint | None],
    has_stopped: HasStopped | None = None,
) -> Iterator[list[Token | None]]:
    num_rows, seq = inputs.token_ids.shape
    engine = Engine(model, images, rows=num_rows, capacity=seq + decodings[0].max_new_tokens)
    tickets = engine.add(inputs, decodings, grammars)
    while not engine.is_idle:
        tokens = {written.ticket: written.token for written in engine.step()}
        yield [tokens.get(ticket) for ticket in tickets]
        for row, ticket in enumerate(tickets):
            if has_stopped is not None and has_stopped(row):
                engine.cancel(ticket)


@torch.inference_mode()
def _beams(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    decoding: Decoding,
    grammars: Sequence[Constraint | None],
) -> list[list[Token]]:
    logits, cache = finish(read_prompts(model, images, inputs, decoding.max_new_tokens))
    answers = beam_search(model, logits, cache, decoding, grammars)
    return [list(map(Token, each.ids, each.log_probs, each.location_log_probs)) for each in answers]


def _best_of(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    decoding: Decoding,
    grammars: Sequence[Constraint | None],
) -> list[list[Token]]:
    """For each row the most likely of the answers that its seed and those after it give."""
    seeds = range(decoding.seed, decoding.seed + decoding.best_of)
    rows = [row for row in range(len(grammars)) for _ in seeds]
    steps = _step_by_step(
        model,
        images,
        select_rows(model, inputs, rows),
        [replace(decoding, seed=seed, best_of=1) for _ in grammars for seed in seeds],
        [grammars[row] for row in rows],
    )
    answers = [[token for token in column if token is not None] for column in zip(*steps, strict=True)]
    groups = (answers[start : start + len(seeds)] for start in range(0, len(answers), len(seeds)))
    return [max(group, key=lambda tokens: math.fsum(token.log_prob for token in tokens)) for group in groups]


def _in_steps(answers: Sequence[Sequence[Token]]) -> Iterator[list[Token | None]]:
    return map(list, itertools.zip_longest(*answers))


def _checked(constraints: Sequence[Constraint | None] | None, num_rows: int) -> Sequence[Constraint | None]:
    if constraints is None:
        return [None] * num_rows
    if len(constraints) != num_rows:
        raise InputError(
            f"{len(constraints)} constraints for {num_rows} prompts",
            hint="give one per prompt, None for a prompt without",
        )
    return constraints
