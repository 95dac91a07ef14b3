"""Random adapters for small models."""

import copy
import re
from pathlib import Path

import torch
from torch import nn

from paligemma2.checkpoint.adapter import save_adapter
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import Adapter, LowRank
from paligemma2.model.paligemma2 import PaliGemma2Model

DECODER = r"language_model\..*"
EVERYTHING = ".*"


def random_adapter(
    config: ModelConfig,
    layers: str = DECODER,
    *,
    seed: int = 0,
    rank: int = 3,
    alpha: float = 6.0,
    scale: float = 0.1,
    is_rank_stabilized: bool = False,
) -> Adapter:
    """Changes of every linear layer whose name the expression `layers` fits."""
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and re.fullmatch(layers, name):
            a = torch.empty(rank, module.in_features).normal_(0.0, scale, generator=generator)
            b = torch.empty(module.out_features, rank).normal_(0.0, scale, generator=generator)
            changes[name] = LowRank(a, b, alpha)
    assert changes
    return Adapter(changes=changes, is_rank_stabilized=is_rank_stabilized)


def merged(model: PaliGemma2Model, adapter: Adapter) -> PaliGemma2Model:
    """A copy whose weights are changed, which needs no adapter."""
    model = copy.deepcopy(model)
    for layer, (a, b, _) in adapter.changes.items():
        model.get_submodule(layer).weight.data += adapter.scale_of(layer) * b @ a
    return model


def save_random_adapter(folder: Path, config: ModelConfig, layers: str = DECODER, seed: int = 0) -> Path:
    """A folder with an adapter that changes the answers of a small model."""
    save_adapter(folder, random_adapter(config, layers, seed=seed, scale=0.3), config)
    return folder
