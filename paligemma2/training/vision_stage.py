"""Stage 0: the image encoder alone learns to see, from dense labels of drawn pictures.

This stands in for SigLIP's own pre-training, which the real model starts from. Next-token loss alone gives a
small encoder too little gradient about edges: without this stage shapes and letters stay at chance.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.words import MAX_LETTERS
from paligemma2.data.synthetic.world import MAX_OBJECTS, PatchLabels, labelled_sample
from paligemma2.model.config import VisionConfig
from paligemma2.model.siglip import SiglipEncoder
from paligemma2.processing.image import scale_pixels

_NUM_LETTERS = 26
_CLASSES = {
    "shape": len(SHAPES) + 1,
    "color": len(COLORS) + 1,
    "letter": _NUM_LETTERS + 1,
    "order": max(MAX_LETTERS, MAX_OBJECTS) + 1,
}
_EDGE_BINS = 64
_EDGE_WEIGHT = 0.25


@dataclass(frozen=True, kw_only=True)
class DenseBatch:
    """Pictures and what every patch of them shows.

    Attributes:
        pixel_values: float32 [images, 3, height, width] in [-1, 1].
        classes: for each of shape, color, letter, order: int64 [images, patches], 0 = none.
        boxes: float32 [images, patches, 4], (y_min, x_min, y_max, x_max) of the object on the patch.
    """

    pixel_values: Tensor
    classes: dict[str, Tensor]
    boxes: Tensor


@dataclass(frozen=True, kw_only=True)
class DenseBatches:
    """Makes the batch of a step from the pictures of a split.

    Attributes:
        split: of the world.
        config: gives image and patch size.
        batch_size: pictures per batch.
        first: index of the first picture.
    """

    split: str
    config: VisionConfig
    batch_size: int
    first: int = 0

    def __call__(self, step: int) -> DenseBatch:
        """The batch of this step."""
        start = self.first + step * self.batch_size
        samples = [
            labelled_sample(self.split, i, size=self.config.image_size, patch_size=self.config.patch_size)
            for i in range(start, start + self.batch_size)
        ]
        labels = [label for _, label in samples]
        return DenseBatch(
            pixel_values=torch.from_numpy(np.stack([scale_pixels(image) for image, _ in samples])),
            classes={name: _stack(labels, name).long() for name in _CLASSES},
            boxes=_stack(labels, "box"),
        )


def _stack(labels: list[PatchLabels], name: str) -> Tensor:
    return torch.from_numpy(np.stack([getattr(label, name) for label in labels])).flatten(1, 2)


def _shows_something(batch: DenseBatch) -> Tensor:
    return (batch.classes["shape"] > 0) | (batch.classes["letter"] > 0)


def edge_targets(boxes: Tensor) -> Tensor:
    """What the bins of each edge should say: the two nearest ones share the edge by their nearness.

    Args:
        boxes: float32 [..., 4] in 0..1; the first bin stands for 0 and the last for 1.

    Returns:
        float32 [..., 4, bins]; each edge sums to 1.
    """
    places = torch.arange(_EDGE_BINS, device=boxes.device)
    return (1.0 - (boxes[..., None] * (_EDGE_BINS - 1) - places).abs()).clamp(min=0.0)


class DenseVisionModel(nn.Module):
    """An image encoder with one throw-away linear layer that reads off each patch.

    Args:
        encoder: to train.
        config: of the encoder.
    """

    def __init__(self, encoder: SiglipEncoder, config: VisionConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(config.hidden_size, sum(_CLASSES.values()) + 4 * _EDGE_BINS)

    def forward(self, pixel_values: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits [images, patches, classes] by name, and [images, patches, 4, bins] for the edges of boxes.

        An edge is a choice among bins, as it later is among location tokens: the decoder can then read it off
        by a linear layer, which it could not do from one number.
        """
        outputs = self.head(self.encoder(pixel_values)).float()
        *logits, edges = outputs.split([*_CLASSES.values(), 4 * _EDGE_BINS], dim=-1)
        return dict(zip(_CLASSES, logits, strict=True)), edges.unflatten(-1, (4, _EDGE_BINS))

    def loss(self, batch: DenseBatch) -> Tensor:
        """Cross-entropies of the classes, plus those of the edges where a patch shows something; a scalar."""
        logits, edges = self(batch.pixel_values)
        total = torch.stack(
            [F.cross_entropy(logits[name].flatten(0, 1), batch.classes[name].flatten()) for name in _CLASSES]
        ).sum()
        on_object = _shows_something(batch)[..., None]
        missed = -(edge_targets(batch.boxes) * edges.log_softmax(dim=-1)).sum(dim=-1) * on_object
        loss: Tensor = total + _EDGE_WEIGHT * missed.sum() / (4 * on_object.sum().clamp(min=1))
        return loss

    @torch.no_grad()
    def scores(self, batch: DenseBatch) -> dict[str, float]:
        """Accuracy of each class over the patches that show something, and the mean box error."""
        logits, edges = self(batch.pixel_values)
        result = {}
        for name in _CLASSES:
            shown = batch.classes[name] > 0
            hit = logits[name].argmax(-1)[shown] == batch.classes[name][shown]
            result[name] = hit.float().mean().item()
        on_object = _shows_something(batch)
        boxes = edges.softmax(dim=-1) @ torch.linspace(0.0, 1.0, _EDGE_BINS, device=edges.device)
        result["box_error"] = (boxes - batch.boxes)[on_object].abs().mean().item()
        return result
