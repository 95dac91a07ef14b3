"""A model of some thousand weights with the real vocabulary of the small one, and batches for it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from paligemma2.data.synthetic.world import VOCABULARY
from paligemma2.model.config import PRESETS, ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import Processor
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.training.initialization import initialize
from paligemma2.training.stages import LATER_WORDS
from paligemma2.types import Example

TOKENIZER_JSON = build_tiny_tokenizer((*VOCABULARY, *LATER_WORDS))
TINY = PRESETS["tiny"]
SMALL = ModelConfig(
    vision=VisionConfig(image_size=28, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24),
    text=TextConfig(
        vocab_size=TINY.text.vocab_size,
        hidden_size=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=32,
        query_pre_attn_scalar=8.0,
        max_positions=256,
    ),
    image_token_id=TINY.image_token_id,
)


def small_processor(image_size: int = 28) -> Processor:
    vision = dataclasses.replace(SMALL.vision, image_size=image_size)
    config = dataclasses.replace(SMALL, vision=vision)
    return Processor(Tokenizer.from_json(TOKENIZER_JSON, config), config)


def small_model(seed: int = 0) -> PaliGemma2Model:
    model = PaliGemma2Model(SMALL)
    initialize(model, Tokenizer.from_json(TOKENIZER_JSON, SMALL).location_ids, seed=seed)
    return model


def picture(seed: int, size: int = 28) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def examples_on(pictures: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> list[Example]:
    """Rows of unequal length, one with two pictures, one with locations."""
    first, second, third = pictures
    return [
        Example(images=(first,), prefix="caption en", suffix="a red circle and a blue square"),
        Example(images=(second,), prefix="answer en how many objects are there?", suffix="2"),
        Example(images=(first, third), prefix="answer en which picture has more objects?", suffix="first"),
        Example(images=(second,), prefix="detect star", suffix="<loc0000><loc0010><loc0500><loc1023> star"),
    ]
