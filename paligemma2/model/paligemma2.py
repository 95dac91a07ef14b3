"""The whole model: image encoder, linear projector, decoder (PaliGemma 2, arXiv:2412.03555)."""

from dataclasses import replace
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from paligemma2.errors import ConfigError, InputError
from paligemma2.model.cache import KVCache
from paligemma2.model.config import ModelConfig, Recomputation
from paligemma2.model.gemma2 import GemmaDecoder, GemmaLayer
from paligemma2.model.piecewise import Piecewise, finish
from paligemma2.model.prefix_mask import Examples, PrefixLayout
from paligemma2.model.siglip import SiglipEncoder


class Projector(nn.Module):
    """One linear layer from the width of the image encoder to that of the decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.vision.hidden_size, config.text.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[images, patches, vision width] to [images, patches, text width]."""
        return self.linear(x)


class PaliGemma2Model(nn.Module):
    """Images and tokens to logits. Holds parameters only, no buffers, so it can be built on the meta device.

    The output layer is the embedding itself (tied); there is no separate `lm_head`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = SiglipEncoder(config.vision)
        self.multi_modal_projector = Projector(config)
        self.language_model = GemmaDecoder(config.text)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that it computes in: that of its weights, unless these are packed in a smaller one."""
        return self.language_model.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language_model.norm.weight.device

    def prepare_training(self, *, dropout: float = 0.0, recomputation: Recomputation = "none") -> None:
        """Say what differs in training from inference; weights and gradients do not change by it.

        Args:
            dropout: share of the decoder's activations that are dropped, in training mode only; drawn from
                PyTorch's global generator.
            recomputation: what blocks of both towers compute again on the way back, instead of keeping it.

        Raises:
            ConfigError: `dropout` is outside [0, 1), or `recomputation` is none of the three.
        """
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout is {dropout}", hint="give a share from 0 up to 1")
        if recomputation not in get_args(Recomputation):
            raise ConfigError(
                f"recomputation {recomputation!r} is unknown", hint="use 'none', 'selective' or 'full'"
            )
        for layer in self.language_model.layers:
            assert isinstance(layer, GemmaLayer)
            layer.dropout = dropout
        self.language_model.recomputation = self.vision_tower.recomputation = recomputation

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Image tokens, unscaled as the decoder wants them.

        Args:
            pixel_values: float [images, 3, height, width] in [-1, 1]; every image is encoded by itself.

        Returns:
            [images, num_image_tokens, width of the decoder].
        """
        return finish(self.encode_images_in_pieces(pixel_values))

    def encode_images_in_pieces(self, pixel_values: Tensor) -> Piecewise[Tensor]:
        """`encode_images`, layer by layer."""
        encoded = yield from self.vision_tower.in_pieces(pixel_values)
        projected: Tensor = self.multi_modal_projector(encoded)
        return projected

    def embed(self, token_ids: Tensor, image_tokens: Tensor | None, table: Tensor | None = None) -> Tensor:
        """Embeddings of a batch, with image tokens put into their slots in order.

        Args:
            token_ids: int64 [batch, seq]; slots of images hold `config.image_token_id`.
            image_tokens: [images, num_image_tokens, width] in the order of their slots, or None.
            table: see `GemmaDecoder.embed`.

        Returns:
            [batch, seq, width].

        Raises:
            InputError: the number of slots is not the number of image tokens.
        """
        is_image = token_ids == self.config.image_token_id
        # The <image> id may lie beyond the last row (257152-row tables), so it is never looked up.
        x = self.language_model.embed(token_ids.masked_fill(is_image, self.config.pad_token_id), table)
        num_slots = int(is_image.sum())
        num_tokens = 0 if image_tokens is None else image_tokens.shape[0] * image_tokens.shape[1]
        if num_slots != num_tokens:
            raise InputError(
                f"the prompts have room for {num_slots} image tokens, the images give {num_tokens}",
                hint=f"write <image> {self.config.num_image_tokens} times per image, or use the Processor",
            )
        if image_tokens is None:
            return x
        places = is_image.flatten().nonzero()[:, 0]
        tokens = image_tokens.to(x.dtype).flatten(0, 1)
        return x.flatten(0, 1).index_copy(0, places, tokens).view_as(x)

    def hidden_states(
        self,
        token_ids: Tensor,
        image_tokens: Tensor | None,
        layout: PrefixLayout,
        examples: Examples | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the final norm.

        Args:
            token_ids: see `embed`.
            image_tokens: see `embed`.
            layout: who may see whom.
            examples: of the layout, with the tokens that are wanted; None asks for all.
            table: see `embed`.

        Returns:
            [batch, seq, width], or [1, wanted tokens, width].
        """
        x = self.embed(token_ids, image_tokens, table)
        return self.language_model(x, layout.positions, layout.dense, examples=examples)

    def forward(self, token_ids: Tensor, pixel_values: Tensor | None, layout: PrefixLayout) -> Tensor:
        """Logits of every token at once, as in training.

        Args:
            token_ids: int64 [batch, seq].
            pixel_values: float [images, 3, height, width] in [-1, 1], in the order of their slots, or None.
            layout: who may see whom.

        Returns:
            float32 [batch, seq, vocab].
        """
        image_tokens = None if pixel_values is None else self.encode_images(pixel_values)
        return self.language_model.logits(self.hidden_states(token_ids, image_tokens, layout))

    def prefill(
        self, token_ids: Tensor, image_tokens: Tensor | None, layout: PrefixLayout, max_new_tokens: int
    ) -> tuple[Tensor, KVCache]:
        """Read left-padded prompts into a cache.

        Args:
            token_ids: int64 [batch, seq], padded on the left.
            image_tokens: [images, num_image_tokens, width] or None.
            layout: all valid tokens are prefix.
            max_new_tokens: room to reserve for generated tokens.

        Returns:
            float32 logits [batch, vocab] of the first generated token, and the cache.

        Raises:
            InputError: a prompt is padded on the right.
        """
        return finish(self.prefill_in_pieces(token_ids, image_tokens, layout, max_new_tokens))

    def prefill_in_pieces(
        self, token_ids: Tensor, image_tokens: Tensor | None, layout: PrefixLayout, max_new_tokens: int
    ) -> Piecewise[tuple[Tensor, KVCache]]:
        """`prefill`, layer by layer: tokens of a prefix all see each other, so it has no smaller parts."""
        if not bool(layout.is_valid[:, -1].all()):
            raise InputError("a prompt is padded on the right", hint="pad prompts on the left to generate")
        cache = KVCache.for_prompts(self.language_model.config, layout, max_new_tokens, self.dtype)
        x = self.embed(token_ids, image_tokens)
        hidden = yield from self.language_model.in_pieces(x, layout.positions, layout.visible, cache)
        cache.hold(layout)
        return self.language_model.logits(hidden[:, -1]), cache

    def step(self, token_ids: Tensor, cache: KVCache) -> Tensor:
        """One more token per row.

        Args:
            token_ids: int64 [batch], the tokens chosen last.
            cache: as left by `prefill` or the previous `step`; is updated.

        Returns:
            float32 logits [batch, vocab] of the next token.

        Raises:
            InputError: the cache is full.
        """
        return self.extend(token_ids[:, None], cache)[:, 0]

    def extend(self, token_ids: Tensor, cache: KVCache) -> Tensor:
        """Several more tokens per row, each of which sees those before it.

        Args:
            token_ids: int64 [batch, new], known tokens of the suffix.
            cache: as left by `prefill`, `step` or `extend`; is updated.

        Returns:
            float32 logits [batch, new, vocab] of the token after each.

        Raises:
            InputError: the cache has no room for them.
        """
        new = token_ids.shape[1]
        if cache.longest + new > cache.capacity:
            raise InputError(
                f"the cache is full with {cache.longest} of {cache.capacity} tokens; {new} more do not fit",
                hint="reserve more max_new_tokens in prefill",
            )
        x = self.language_model.embed(token_ids)
        positions = cache.next_positions[: cache.num_rows, None] + torch.arange(new, device=x.device)
        hidden = self.language_model(x, positions, partial(cache.visible, new=new), cache)
        cache.advance(new)
        return self.language_model.logits(hidden)


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of a model, by our name without `.weight`."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    linear = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return {name: (module.out_features, module.in_features) for name, module in linear}


def drop_final_cap(model: PaliGemma2Model) -> None:
    """Leave the output layer without its soft-cap, as in big_vision's transfers."""
    model.config = replace(model.config, text=replace(model.config.text, final_cap=None))
    model.language_model.config = replace(model.language_model.config, final_cap=None)
