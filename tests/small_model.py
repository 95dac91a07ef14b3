"""A small random model as an ordinary folder, for tests of everything above the checkpoint layer."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paligemma2.checkpoint.save import save_model
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer, companion_files, tiny_vocabulary

WORDS = ("caption", "detect", "answer", "en", "cat", "dog", "what", "is", "this", "ocr", ";", "?")


def save_small_model(folder: Path, seed: int = 0, scale: float = 0.1) -> Path:
    """28 px, 4 tokens per image, a context of 512, random weights."""
    files = folder.with_name(f"{folder.name}-tokenizer")
    files.mkdir(parents=True)
    for name, text in {"tokenizer.json": build_tiny_tokenizer(WORDS), **companion_files()}.items():
        (files / name).write_text(text, encoding="utf-8")
    config = small_config()
    generator = torch.Generator().manual_seed(seed)
    model = PaliGemma2Model(config)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, scale, generator=generator)
    save_model(folder, model, config, files_from=files)
    return folder


def small_config() -> ModelConfig:
    """`<image>` is the last id but five; the rows behind it are filler."""
    image_id = len(tiny_vocabulary(WORDS)) - 1
    return ModelConfig(
        vision=VisionConfig(image_size=28, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64),
        text=TextConfig(
            vocab_size=image_id + 6,
            hidden_size=48,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=12,
            intermediate_size=96,
            query_pre_attn_scalar=12.0,
            max_positions=512,
        ),
        image_token_id=image_id,
    )


def save_picture(path: Path, seed: int = 0, size: tuple[int, int] = (60, 40)) -> Path:
    """A picture of noise, (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
