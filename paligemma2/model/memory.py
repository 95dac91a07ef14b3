"""How much memory an answer takes, by arithmetic on the configuration.

What counts are the tensors that exist at once where a part of the model is at its largest; the allocator's
rounding and the scratch memory of matrix products come on top.
"""

from dataclasses import dataclass

import torch

from paligemma2.model.config import ModelConfig
from paligemma2.model.gemma2 import ATTENTION_CHUNK_BYTES
from paligemma2.model.paligemma2 import PaliGemma2Model


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
    is_padded: bool = False,
    weights: int | None = None,
) -> MemoryPlan:
    """What it takes to answer some prompts at once.

    Args:
        config: of the model.
        batch: rows that are written at once; each sample or beam of a prompt is one.
        images: different pictures of all prompts together, each frame of a video one of them.
        prompt_tokens: of the longest prompt, image tokens included.
        max_new_tokens: of an answer.
        dtype: that the model computes in.
        is_padded: whether prompts differ in length; only then there are masks.
        weights: bytes of all weights as they are kept, `weight_forms.stored_bytes` of the model; by default
            each is kept in `dtype`, plain or packed.
    """
    text, capacity = config.text, prompt_tokens + max_new_tokens
    cached = 2 * text.num_layers * text.num_kv_heads * text.head_dim * batch * capacity
    pixels = images * config.vision.num_channels * config.vision.image_size**2
    image_tokens = images * config.num_image_tokens * text.hidden_size
    held = pixels * 4 + 3 * image_tokens * dtype.itemsize  # encoded, remembered, and sorted by prompt
    encoding = (pixels + _encoding(config, images)) * dtype.itemsize
    reading = _reading(config, batch, prompt_tokens, dtype, is_padded=is_padded)
    return MemoryPlan(
        weights=_plain_weights(config, dtype) if weights is None else weights,
        kv_cache=cached * dtype.itemsize,
        activations=held + max(encoding, reading),
    )


def _plain_weights(config: ModelConfig, dtype: torch.dtype) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in PaliGemma2Model(config).parameters()) * dtype.itemsize


def _encoding(config: ModelConfig, images: int) -> int:
    """Numbers in the larger half of a block of the image encoder."""
    vision = config.vision
    mlp = 2 * vision.hidden_size + 2 * vision.intermediate_size  # residual, normalised; before and after GELU
    attention = 7 * vision.hidden_size  # residual, normalised, queries, keys, values, result, its copy
    return images * vision.num_image_tokens * max(mlp, attention)


def _reading(
    config: ModelConfig, batch: int, prompt_tokens: int, dtype: torch.dtype, *, is_padded: bool
) -> int:
    """Bytes where reading prompts is at its largest: masks, attention, MLP or logits."""
    text, tokens = config.text, batch * prompt_tokens
    mask = batch * prompt_tokens**2 if is_padded else 0  # a byte for each
    windows = {text.window_of_layer(layer) for layer in range(text.num_layers)}
    queries, keys = text.num_heads * text.head_dim, text.num_kv_heads * text.head_dim
    # Embeddings, residual and normalised are there in all; here also queries, keys and values, and what is
    # being turned: its halves and the whole.
    turning = max(3 * queries + 2 * keys, 2 * queries + 4 * keys)
    projections = tokens * (3 * text.hidden_size + turning) * dtype.itemsize
    attention = tokens * (3 * text.hidden_size + queries) * dtype.itemsize
    attention += _attending(config, batch, prompt_tokens, dtype)
    # Also the residual before attention and what that gave; gate, up and their product.
    mlp = tokens * (5 * text.hidden_size + 3 * text.intermediate_size) * dtype.itemsize
    # At the last position alone, three copies in float32 while they are capped.
    output = tokens * 3 * text.hidden_size * dtype.itemsize + 12 * batch * text.vocab_size
    masks = 4 * mask + tokens * text.hidden_size * dtype.itemsize
    return len(windows) * mask + max(masks, projections, attention, mlp, output)


def _attending(config: ModelConfig, batch: int, prompt_tokens: int, dtype: torch.dtype) -> int:
    """Bytes in `grouped_attention`, beside the queries: logits of a chunk, and results."""
    text = config.text
    results = batch * prompt_tokens * text.num_heads * text.head_dim * dtype.itemsize
    of_query = 4 * batch * text.num_heads * prompt_tokens
    chunk = min(prompt_tokens, max(1, ATTENTION_CHUNK_BYTES // of_query))
    logits = chunk * of_query
    products = logits * dtype.itemsize // 4
    if chunk == prompt_tokens:
        # Logits are capped in three copies beside the products; then weights, logits and the result, copied.
        return products + max(3 * logits, logits + products + 2 * results)
    return max(products + 3 * logits + results, 2 * results)  # parts of the result, and these joined
