"""Small random models, ours and those of `transformers`."""

import random
from pathlib import Path

import torch
from torch import Tensor

from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout


def small_config(**text: object) -> ModelConfig:
    """Four layers, 64 wide; 500 usable rows, `<image>` at 500 and seven rows of filler."""
    sizes = {
        "vocab_size": 508,
        "hidden_size": 64,
        "num_layers": 4,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 24,
        "intermediate_size": 96,
        "query_pre_attn_scalar": 20.0,
        "sliding_window": 8,
        "max_positions": 256,
    }
    return ModelConfig(
        vision=VisionConfig(
            image_size=28, hidden_size=48, num_layers=2, num_heads=3, intermediate_size=80, patch_size=14
        ),
        text=TextConfig(**(sizes | text)),  # type: ignore[arg-type]
        image_token_id=500,
    )


def random_model(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> PaliGemma2Model:
    generator = torch.Generator().manual_seed(seed)
    model = PaliGemma2Model(config)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.1, generator=generator)
    return model.to(dtype).eval()


def random_hugging_face_model(seed: int) -> torch.nn.Module:
    """A `transformers` model of random dimensions and weights."""
    from transformers import (
        Gemma2Config,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    rng = random.Random(seed)
    kv_heads, head_dim, width = rng.choice((1, 2)), rng.choice((8, 16, 20)), rng.choice((48, 64))
    vocab = rng.choice((320, 450))
    text = Gemma2Config(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=rng.choice((56, 96)),
        num_hidden_layers=rng.choice((2, 3)),
        num_attention_heads=kv_heads * rng.choice((2, 4)),
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=head_dim + 5,
        sliding_window=rng.choice((6, 64)),
        final_logit_softcapping=rng.choice((None, 3.0)),
        max_position_embeddings=128,
    )
    vision = SiglipVisionConfig(
        hidden_size=48,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        vision_use_head=False,
    )
    config = PaliGemmaConfig(
        text_config=text, vision_config=vision, image_token_index=vocab - 3, projection_dim=width
    )
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.1)
    return model


def inputs(config: ModelConfig, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids [2, seq], pixel values [2, 3, height, width], and which tokens are prefix [2, seq]."""
    generator = torch.Generator().manual_seed(seed)
    slots = torch.full((2, config.num_image_tokens), config.image_token_id)
    words = torch.randint(3, config.num_text_rows, (2, 9), generator=generator)
    token_ids = torch.cat([slots, words], dim=1)
    size = config.vision.image_size
    pixel_values = torch.rand(2, 3, size, size, generator=generator) * 2 - 1
    is_prefix = torch.arange(token_ids.shape[1]).expand_as(token_ids) < config.num_image_tokens + 4
    return token_ids, pixel_values, is_prefix


@torch.no_grad()
def our_logits(model: PaliGemma2Model) -> Tensor:
    token_ids, pixel_values, is_prefix = inputs(model.config)
    layout = PrefixLayout.from_flags(torch.ones_like(is_prefix), is_prefix)
    return model(token_ids, pixel_values, layout)


@torch.no_grad()
def their_logits(model: torch.nn.Module, config: ModelConfig) -> Tensor:
    token_ids, pixel_values, is_prefix = inputs(config)
    return model(
        input_ids=token_ids,
        pixel_values=pixel_values,
        attention_mask=torch.ones_like(token_ids),
        token_type_ids=(~is_prefix).long(),
    ).logits.float()


def from_transformers(folder: Path) -> torch.nn.Module:
    from transformers import PaliGemmaForConditionalGeneration

    model, info = PaliGemmaForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    return model.eval()
