"""Training of the mask codec: pairs of masks that are almost equal must get almost the same codes.

A language model will have to predict these codes, and will miss some. So the encoder is pulled to one place
for both masks of a pair, the decoder restores the first from the codes of the second, and some codes are
swapped for near ones on the way: what is next in the codebook decodes alike. The codebook follows the encoder
as a moving average (arXiv:1711.00937, appendix A.1), and codes that nobody uses start anew where cells are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.data.loader import load_batches
from paligemma2.data.synthetic.mask_pictures import (
    Drawing,
    draw_figure,
    figure_of,
    random_drawing,
    random_family,
)
from paligemma2.data.synthetic.seeds import random_for
from paligemma2.model.config import NUM_MASK_TOKENS
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig, ResidualBlock, set_memory_format
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import ProgressCallback, Trainer

SEED = 64
STAGE_NAME = "mask-codec"

MASK_CODEC_CONFIG = MaskCodecConfig(embedding_size=8)
"""A codebook of few dimensions: its codes have clear neighbours, and none stays unused."""
MASK_CODEC_RECIPE = Recipe(steps=900, batch_size=32, learning_rate=2e-3, checkpoint_every=100)

_COMMITMENT = 0.25
_AGREEMENT = 1.0
_SCALE = 0.1
_SWAPPED = 0.12
_NEIGHBOURS = 4
_DECAY = 0.97
_LEAST_COUNT = 0.3
_CHANGE = 1.0


@dataclass(frozen=True, kw_only=True)
class MaskBatch:
    """Pairs of masks of the same figures.

    Attributes:
        clean: float32 [batch, 64, 64] from 0 to 1.
        changed: the same figures in another size, a little turned and with another box.
        step: of the run; seeds what is random.
    """

    clean: Tensor
    changed: Tensor
    step: int


@dataclass(frozen=True, kw_only=True)
class MaskBatches:
    """Makes the batch of a step.

    Attributes:
        split: of the world.
        batch_size: pairs per batch.
    """

    split: str
    batch_size: int

    def __call__(self, step: int) -> MaskBatch:
        """The batch of this step."""
        first = step * self.batch_size
        pairs = [_pair(self.split, index) for index in range(first, first + self.batch_size)]
        clean, changed = (
            torch.from_numpy(np.stack(masks)).float() / 255 for masks in zip(*pairs, strict=True)
        )
        return MaskBatch(clean=clean, changed=changed, step=step)


def _pair(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    rng = random_for("mask", split, index)
    figure = figure_of(random_family(rng), rng)
    while True:
        clean = draw_figure(figure, Drawing())
        changed = draw_figure(figure, random_drawing(rng, amount=_CHANGE))
        if clean is not None and changed is not None:
            return clean, changed
        figure = figure_of(random_family(rng), rng)


class MaskCodecTraining(nn.Module):
    """A codec and what its codebook averages.

    Args:
        codec: to train, in place.
        quantise_from: steps before this one train without a codebook, which then starts from real cells.
        revive_until: steps after this one leave unused codes alone, so that the rest can settle.
    """

    def __init__(self, codec: MaskCodec, *, quantise_from: int, revive_until: int) -> None:
        super().__init__()
        self.codec = codec
        self.quantise_from, self.revive_until = quantise_from, revive_until
        vectors = codec.codebook.vectors.requires_grad_(False)
        self.counts = nn.Parameter(torch.ones(NUM_MASK_TOKENS), requires_grad=False)
        self.sums = nn.Parameter(vectors.detach().clone(), requires_grad=False)

    def moving(self) -> dict[str, Tensor]:
        """What changes without a gradient, to be saved with the rest."""
        return {"counts": self.counts, "sums": self.sums, "vectors": self.codec.codebook.vectors}

    def loss(self, batch: MaskBatch) -> Tensor:
        """The loss of a batch, a scalar; the codebook moves on the way."""
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + batch.step)
        # In float32, whatever the products ran in: the codebook is a slow mean of these.
        cells = self.codec.cells(batch.changed).float()
        with torch.no_grad():
            clean = self.codec.cells(batch.clean).float()
        # Without a scale of its own the agreement would draw all cells into one point.
        scale = (_points(cells).std(dim=0) - 1).square().mean()
        pull = _AGREEMENT * F.mse_loss(cells, clean) + _SCALE * scale
        if batch.step < self.quantise_from:
            return self._restoration(cells, batch) + pull
        if batch.step == self.quantise_from:
            self._start_codebook(cells.detach(), generator)
        codes = self.codec.codebook.nearest(cells)
        commitment = F.mse_loss(cells, self.codec.codebook(codes))
        # The decoder sees the codebook's vectors, the encoder gets the gradient as if it had made them.
        seen = cells + (self.codec.codebook(self._swap(codes, generator)) - cells).detach()
        loss = self._restoration(seen, batch) + pull + _COMMITMENT * commitment
        self._follow(_points(cells.detach()), codes.flatten(), generator, batch.step)
        return loss

    def _restoration(self, cells: Tensor, batch: MaskBatch) -> Tensor:
        return F.mse_loss(self.codec.decoder(cells)[:, 0], 2 * batch.clean - 1)

    def _swap(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        neighbours = nearest_neighbours(self.codec.codebook.vectors, _NEIGHBOURS)
        choice = torch.randint(_NEIGHBOURS, codes.shape, generator=generator)
        is_swapped = torch.rand(codes.shape, generator=generator) < _SWAPPED
        return torch.where(is_swapped, neighbours[codes, choice], codes)

    @torch.no_grad()
    def _start_codebook(self, cells: Tensor, generator: torch.Generator) -> None:
        points = _points(cells)
        chosen = points[torch.randperm(len(points), generator=generator)[:NUM_MASK_TOKENS]]
        rows = torch.arange(NUM_MASK_TOKENS) % len(chosen)
        self.sums.copy_(chosen[rows])
        self.counts.fill_(1.0)
        self.codec.codebook.vectors.copy_(self.sums)

    @torch.no_grad()
    def _follow(self, points: Tensor, codes: Tensor, generator: torch.Generator, step: int) -> None:
        counts = torch.bincount(codes, minlength=NUM_MASK_TOKENS).to(points.dtype)
        self.counts.lerp_(counts, 1 - _DECAY)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, codes, points), 1 - _DECAY)
        if step < self.revive_until:
            is_dead = self.counts < _LEAST_COUNT
            drawn = torch.randint(len(points), (NUM_MASK_TOKENS,), generator=generator)
            self.sums[is_dead] = points[drawn[is_dead]]
            self.counts[is_dead] = 1.0
        self.codec.codebook.vectors.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])


def _points(cells: Tensor) -> Tensor:
    return cells.permute(0, 2, 3, 1).flatten(0, 2)  # [batch * 16, embedding]


def nearest_neighbours(vectors: Tensor, count: int) -> Tensor:
    """For every code the `count` others that are nearest, int64 [codes, count], nearest first."""
    distances = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    return distances.topk(count, dim=1, largest=False).indices


@torch.no_grad()
def initialize_codec(codec: MaskCodec) -> None:
    """Weights that keep the variance of what passes (arXiv:1502.01852), from torch's own generator."""
    for module in codec.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs = module.in_channels * math.prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose2d):  # an output pixel sees every second row and column
                inputs //= math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(2 / inputs))
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in codec.modules():
        if isinstance(module, ResidualBlock):
            last = module.net[-1]
            assert isinstance(last, nn.Conv2d)
            last.weight.mul_(0.1)


def train_mask_codec(
    recipe: Recipe, folder: Path, *, num_workers: int, on_progress: ProgressCallback
) -> MaskCodec:
    """Train a codec from nothing; goes on where an earlier call stopped.

    Args:
        recipe: steps, batch size and rates.
        folder: for states and the log.
        num_workers: processes that draw masks ahead.
        on_progress: called with the name of the stage and its progress.

    Returns:
        The codec, float32.
    """
    torch.manual_seed(SEED)
    codec = MaskCodec(MASK_CODEC_CONFIG)
    initialize_codec(codec)
    set_memory_format(codec, torch.channels_last)
    training = MaskCodecTraining(codec, quantise_from=recipe.steps // 16, revive_until=recipe.steps * 3 // 4)
    make = MaskBatches(split="train", batch_size=recipe.batch_size)

    def batches(start: int, stop: int) -> Iterator[MaskBatch]:
        return load_batches(make, start, stop, num_workers=num_workers)

    progress = partial(on_progress, STAGE_NAME)
    Trainer(
        training,
        recipe,
        training.loss,
        also_saved=training.moving(),
        folder=folder,
        on_progress=progress,
    ).fit(batches)
    set_memory_format(codec, torch.contiguous_format)
    return codec.requires_grad_(True)
