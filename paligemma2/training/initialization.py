"""Starting weights of the small model, which is trained from nothing."""

import math

import torch
from torch import Tensor, nn

from paligemma2.model.paligemma2 import PaliGemma2Model

_LOWEST_CYCLES, _HIGHEST_CYCLES = 0.25, 24.0


@torch.no_grad()
def initialize(model: PaliGemma2Model, location_ids: range, *, seed: int) -> None:
    """Fill the weights of a fresh model.

    Embeddings have unit size after the decoder's scale. Neighbouring locations start out similar, and so do
    neighbouring patches: both are places, and a small model learns that only slowly from nothing.

    Args:
        model: float32.
        location_ids: ids of `<loc0000>`….
        seed: of everything random.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, (1.5 * fan_in) ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
    # Before the embedding: the image encoder starts alike whatever the vocabulary.
    grid = torch.linspace(0.0, 1.0, model.config.vision.grid_size)
    half = model.config.vision.hidden_size // 2
    rows, columns = _waves(grid, half, generator), _waves(grid, half, generator)
    size = len(grid)
    model.vision_tower.embeddings.position_embedding.weight.copy_(
        0.5 * torch.cat((rows.repeat_interleave(size, dim=0), columns.repeat(size, 1)), dim=1)
    )
    width = model.config.text.hidden_size
    embedding = model.language_model.embed_tokens.weight
    embedding.normal_(0.0, width**-0.5, generator=generator)
    places = torch.linspace(0.0, 1.0, len(location_ids))
    smooth = _waves(places, width, generator) * width**-0.5
    embedding[location_ids.start : location_ids.stop].mul_(0.2).add_(smooth)


def _waves(places: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """[places, width] of unit mean square: waves of rising frequency with random phases."""
    cycles = torch.logspace(math.log10(_LOWEST_CYCLES), math.log10(_HIGHEST_CYCLES), width)
    phases = torch.rand(width, generator=generator)
    return math.sqrt(2.0) * torch.sin(2 * math.pi * (places[:, None] * cycles + phases))
