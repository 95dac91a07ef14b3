"""Prompts into a cache: each picture is encoded once, each different prompt read once."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.model.cache import KVCache
from paligemma2.model.lora import adapter_names, in_pieces_using
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import Piecewise
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.processor import ModelInputs


def read_prompts(
    model: PaliGemma2Model,
    images: ImageTokens,
    inputs: ModelInputs,
    max_new_tokens: int,
    adapters: Sequence[str | None],
) -> Piecewise[tuple[Tensor, KVCache]]:
    """Encode each new picture once and read each different prompt once, layer by layer.

    Args:
        model: in evaluation mode.
        images: encodes pictures.
        inputs: prompts padded on the left, on the CPU.
        max_new_tokens: room to reserve.
        adapters: for each prompt the adapter that it goes through, or None.

    Returns:
        As `PaliGemma2Model.prefill`, a row for each prompt.

    Raises:
        InputError: prompt and `max_new_tokens` do not fit into the model's context.
    """
    check_room(model, inputs, max_new_tokens)
    different, sources = _different_prompts(model, inputs, adapters)
    distinct = inputs if len(different) == len(sources) else select_rows(model, inputs, different)
    names = [adapters[row] for row in different]
    slots = zip(distinct.pictures(model.config), names, strict=True)
    names_of_slots = [name for pictures, name in slots for _ in pictures]
    image_index = distinct.image_index.tolist()
    image_tokens = yield from images.encode(inputs.pixel_values, image_index, names_of_slots)
    work = model.prefill_in_pieces(
        distinct.token_ids.to(model.device), image_tokens, distinct.layout.to(model.device), max_new_tokens
    )
    logits, cache = yield from in_pieces_using(names, model.device, work)
    return (logits, cache) if distinct is inputs else (logits[sources], cache.copied(sources))


def check_adapters(model: PaliGemma2Model, adapters: Sequence[str | None], inputs: ModelInputs) -> None:
    """Nothing, if there is one for each prompt, and the model has those that are named.

    Raises:
        InputError: there is not, or it has not.
    """
    check_one_each("adapters", adapters, inputs)
    named = [name for name in adapters if name is not None]
    known = adapter_names(model) if named else ()
    for name in named:
        if name not in known:
            hint = f"known: {', '.join(known)}" if known else "name it in `load(…, adapter=…)`"
            raise InputError(f"the model has no adapter {name!r}", hint=hint)


def check_one_each(name: str, given: Sequence[object], inputs: ModelInputs) -> None:
    """Nothing, if there is one for each prompt.

    Raises:
        InputError: there is not.
    """
    if len(given) != len(inputs.ids):
        raise InputError(
            f"{len(given)} {name} for {len(inputs.ids)} prompts",
            hint="give one per prompt" + ("" if name == "decodings" else ", None for a prompt without"),
        )


def check_room(model: PaliGemma2Model, inputs: ModelInputs, max_new_tokens: int) -> None:
    """Nothing, if prompts and answers fit the context.

    Raises:
        InputError: they do not.
    """
    room = model.config.text.max_positions - inputs.token_ids.shape[1]
    if max_new_tokens > room:
        raise InputError(
            f"a prompt of {inputs.token_ids.shape[1]} tokens leaves room for {room} of "
            f"{model.config.text.max_positions}, max_new_tokens is {max_new_tokens}",
            hint=f"give max_new_tokens={room} or less" if room > 0 else "shorten the prompt",
        )


def select_rows(model: PaliGemma2Model, inputs: ModelInputs, rows: Sequence[int]) -> ModelInputs:
    """The batch of these rows, of which one may come several times; its pictures stay as they are."""
    sources, pictures, layout = list(rows), inputs.pictures(model.config), inputs.layout
    return replace(
        inputs,
        token_ids=inputs.token_ids[sources],
        image_index=torch.cat([pictures[row] for row in sources]),
        layout=PrefixLayout(layout.segments[sources], layout.is_prefix[sources], layout.positions[sources]),
        ids=tuple(inputs.ids[row] for row in sources),
    )


def _different_prompts(
    model: PaliGemma2Model, inputs: ModelInputs, adapters: Sequence[str | None]
) -> tuple[list[int], list[int]]:
    """The rows that differ from all before them, and for each row the place of its equal among those."""
    prompts: dict[tuple[str | bytes | None, ...], int] = {}
    different: list[int] = []
    sources: list[int] = []
    rows = zip(inputs.token_ids, inputs.layout.segments, inputs.pictures(model.config), strict=True)
    for row, parts in enumerate(rows):
        key = (adapters[row], *(part.numpy().tobytes() for part in parts))
        if key not in prompts:
            prompts[key] = len(different)
            different.append(row)
        sources.append(prompts[key])
    return different, sources
