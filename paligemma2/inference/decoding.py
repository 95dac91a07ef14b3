"""Decoding a batch of prompts, by whatever method its settings name."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch

from paligemma2.inference.beam import beam_search
from paligemma2.inference.constraints import Constraint
from paligemma2.inference.engine import Engine, Token
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import check_adapters, check_one_each, read_prompts, select_rows
from paligemma2.inference.settings import check_decoding
from paligemma2.model.lora import using_adapters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import finish
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

HasStopped: TypeAlias = Callable[[int], bool]
"""Whether a row, given by its number, is to go on no further than the tokens that were yielded."""


def decode(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    decoding: Decoding,
    *,
    images: ImageTokens | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    adapters: Sequence[str | None] | None = None,
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
        adapters: for each row the name of the adapter that it goes through, or None.
        has_stopped: asked after each token whether a row is to end with it; not with beams or the best of
            several.

    Yields:
        For each row the new token (the end token included), or None if the row had ended before.

    Raises:
        InputError: a setting is out of range or belongs to another method; prompt and `max_new_tokens` do not
            fit into the model's context; the constraints are not one per row, or too long; the adapters are
            not one per row, or not in the model.
    """
    check_decoding(decoding)
    images = images or ImageTokens(model)
    grammars = [None] * len(inputs.ids) if constraints is None else constraints
    check_one_each("constraints", grammars, inputs)
    names = [None] * len(inputs.ids) if adapters is None else adapters
    check_adapters(model, names, inputs)
    if decoding.method == "beam":
        of_beams = [name for name in names for _ in range(decoding.beams)]
        with torch.inference_mode():
            logits, cache = finish(read_prompts(model, images, inputs, decoding.max_new_tokens, names))
            with using_adapters(of_beams, model.device):
                answers = beam_search(model, logits, cache, decoding, grammars)
        yield from _in_steps(
            [list(map(Token, each.ids, each.log_probs, each.location_log_probs)) for each in answers]
        )
    elif decoding.best_of > 1:
        yield from _in_steps(_best_of(model, images, inputs, decoding, grammars, names))
    else:
        decodings = [replace(decoding, stop=())] * len(grammars)
        yield from _step_by_step(model, images, inputs, decodings, grammars, names, has_stopped)


def _step_by_step(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    decodings: Sequence[Decoding],
    grammars: Sequence[Constraint | None],
    adapters: Sequence[str | None],
    has_stopped: HasStopped | None = None,
) -> Iterator[list[Token | None]]:
    num_rows, seq = inputs.token_ids.shape
    engine = Engine(model, images, rows=num_rows, capacity=seq + decodings[0].max_new_tokens)
    tickets = engine.add(inputs, decodings, grammars, adapters)
    while not engine.is_idle:
        tokens = {written.ticket: written.token for written in engine.step()}
        yield [tokens.get(ticket) for ticket in tickets]
        for row, ticket in enumerate(tickets):
            if has_stopped is not None and has_stopped(row):
                engine.cancel(ticket)


def _best_of(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    decoding: Decoding,
    grammars: Sequence[Constraint | None],
    adapters: Sequence[str | None],
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
        [adapters[row] for row in rows],
    )
    answers = [[token for token in column if token is not None] for column in zip(*steps, strict=True)]
    groups = (answers[start : start + len(seeds)] for start in range(0, len(answers), len(seeds)))
    return [max(group, key=lambda tokens: math.fsum(token.log_prob for token in tokens)) for group in groups]


def _in_steps(answers: Sequence[Sequence[Token]]) -> Iterator[list[Token | None]]:
    return map(list, itertools.zip_longest(*answers))
