"""How much memory an answer takes, by arithmetic on the configuration.

What counts are the tensors that exist at once where a part of the model is at its largest; the allocator's
rounding and the scratch memory of matrix products come on top.
"""

from dataclasses import dataclass

import torch

from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model

ATTENTION_CHUNK_BYTES = 64 * 2**20
"""The most that float32 logits of attention take at a time; there are up to three copies of them."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes that are needed at the same time.

    Attributes:
        weights: of the whole model.
        kv_cache: keys and values of all rows, prompt and answer.
        activations: everything else where it is largest, pictures included.
    """

    weights: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        """All three together."""
        return self.weights + self.kv_cache + self.activations


def inference_memory(
    config: ModelConfig,
    *,
    batch: int,
    images: int,
    prompt_tokens: int,
    max_new_tokens: int,
    dtype: torch.dtype,
    weight_dtype: torch.dtype | None = None,
) -> MemoryPlan:
    """What it takes to answer some prompts at once.

    Args:
        config: of the model.
        batch: rows that are written at once; each sample or beam of a prompt is one.
        images: different pictures of all prompts together, each frame of a video one of them.
        prompt_tokens: of the longest prompt, image tokens included.
        max_new_tokens: of an answer.
        dtype: that the model computes in.
        weight_dtype: of the weights where they are kept in another one (`fit_to_device` does so).
    """
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in PaliGemma2Model(config).parameters())
    text, capacity = config.text, prompt_tokens + max_new_tokens
    cached = 2 * text.num_layers * text.num_kv_heads * text.head_dim * batch * capacity
    pixels = images * config.vision.num_channels * config.vision.image_size**2
    image_tokens = images * config.num_image_tokens * text.hidden_size
    held = pixels * 4 + 3 * image_tokens * dtype.itemsize  # encoded, remembered, and sorted by prompt
    encoding = (pixels + _encoding(config, images)) * dtype.itemsize
    return MemoryPlan(
        weights=weights * (weight_dtype or dtype).itemsize,
        kv_cache=cached * dtype.itemsize,
        activations=held + max(encoding, _reading(config, batch, prompt_tokens, dtype)),
    )


def _encoding(config: ModelConfig, images: int) -> int:
    """Numbers in the larger half of a block of the image encoder."""
    vision = config.vision
    mlp = 2 * vision.hidden_size + 2 * vision.intermediate_size  # residual, normalised; before and after GELU
    attention = 7 * vision.hidden_size  # residual, normalised, queries, keys, values, result, its copy
    return images * vision.num_image_tokens * max(mlp, attention)


def _reading(config: ModelConfig, batch: int, prompt_tokens: int, dtype: torch.dtype) -> int:
    """Bytes where reading prompts is at its largest: masks, attention, MLP or logits."""
    text, tokens = config.text, batch * prompt_tokens
    mask = batch * prompt_tokens**2  # a byte for each
    windows = {text.window_of_layer(layer) for layer in range(text.num_layers)}
    queries, keys = text.num_heads * text.head_dim, text.num_kv_heads * text.head_dim
    logits = 4 * batch * text.num_heads * prompt_tokens**2
    # Embeddings, residual and normalised are there in all three; first queries, keys and values, as they are
    # turned; then the queries, and the logits before, in and after soft-cap or softmax.
    projections = tokens * (3 * text.hidden_size + 3 * queries + 3 * keys) * dtype.itemsize
    attention = tokens * (3 * text.hidden_size + queries) * dtype.itemsize
    attention += 3 * min(logits, ATTENTION_CHUNK_BYTES)
    # Also the residual before attention and what that gave; gate, up and their product.
    mlp = tokens * (5 * text.hidden_size + 3 * text.intermediate_size) * dtype.itemsize
    # At the last position alone, three copies in float32 while they are capped.
    output = tokens * 3 * text.hidden_size * dtype.itemsize + 12 * batch * text.vocab_size
    masks = 4 * mask + tokens * text.hidden_size * dtype.itemsize
    return len(windows) * mask + max(masks, projections, attention, mlp, output)
