"""Greedy decoding: prefill, then one token at a time through a preallocated cache."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs

Choose = Callable[[Tensor], Tensor]
"""Logits of the tokens that may be produced, float32 [batch, text rows], to the chosen ids, int64 [batch]."""


def most_likely(logits: Tensor) -> Tensor:
    """Greedy choice: float32 [batch, vocab] to int64 [batch]."""
    return logits.argmax(dim=-1)


@torch.inference_mode()
def decode(
    model: PaliGemma2Model, inputs: ModelInputs, max_new_tokens: int, *, choose: Choose = most_likely
) -> Iterator[list[int | None]]:
    """The tokens of a batch as they are decoded.

    `<image>` and the filler rows behind it are never chosen. Decoding ends when every row has ended or
    `max_new_tokens` have been made.

    Args:
        model: in evaluation mode.
        inputs: prompts padded on the left.
        max_new_tokens: at least 1.
        choose: picks the next tokens from the logits.

    Yields:
        For each row the new token id (the end token included), or None if the row had ended before.

    Raises:
        InputError: prompt and `max_new_tokens` do not fit into the model's context.
    """
    _check_room(model, inputs, max_new_tokens)
    inputs = inputs.to(model.device)
    end = model.config.eos_token_id
    image_tokens = model.encode_images(inputs.pixel_values)[inputs.image_index]
    logits, cache = model.prefill(inputs.token_ids, image_tokens, inputs.layout, max_new_tokens)
    has_ended = torch.zeros(len(inputs.ids), dtype=torch.bool, device=model.device)
    for count in range(1, max_new_tokens + 1):
        chosen = choose(logits[:, : model.config.num_text_rows]).masked_fill(has_ended, end)
        ended_before = has_ended.tolist()
        yield [None if ended else token for token, ended in zip(chosen.tolist(), ended_before, strict=True)]
        has_ended = has_ended | (chosen == end)
        if count == max_new_tokens or bool(has_ended.all()):
            return
        logits = model.step(chosen, cache)


def _check_room(model: PaliGemma2Model, inputs: ModelInputs, max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}", hint="give at least 1")
    room = model.config.text.max_positions - inputs.token_ids.shape[1]
    if max_new_tokens > room:
        raise InputError(
            f"a prompt of {inputs.token_ids.shape[1]} tokens leaves room for {room} of "
            f"{model.config.text.max_positions}, max_new_tokens is {max_new_tokens}",
            hint=f"give max_new_tokens={room} or less" if room > 0 else "shorten the prompt",
        )
