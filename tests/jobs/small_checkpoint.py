"""A small model for the jobs that work on files; its sizes are none of the named variants'."""

from pathlib import Path

import torch

from paligemma2.checkpoint.save import save_model
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model

CONFIG = ModelConfig(
    vision=VisionConfig(image_size=28, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48),
    text=TextConfig(
        vocab_size=108,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=40,
    ),
    image_token_id=100,
)


def save_small_checkpoint(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes random weights to `folder`; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    model = PaliGemma2Model(CONFIG)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    save_model(folder, model.to(dtype), CONFIG)
    return folder
