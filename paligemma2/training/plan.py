"""How much memory a step of training takes on each device, by arithmetic on the model and the recipe.

Counted are the tensors that exist at the same time at each of the moments that can be the largest: while
each block goes back, and while the weights are updated. The rounding of the allocator and the scratch memory
of matrix products come on top.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from paligemma2.model.config import Recomputation
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.recipe import OptimizerName
from paligemma2.training.table_loss import BLOCK_ROWS, LOGIT_BYTES

_FLOAT = 4
STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2.0 + 2 * _FLOAT / 256, "muon": 4.0}
"""Of the optimiser for each number that is trained: two moments; with 8 bits a scale for each 256."""
ATTENTION_BYTES = {"cpu": 3 * 8 * 2**20, "cuda": 3 * 256 * 2**20}
"""Of weights of the attention at a time: logits, weights, and their gradient."""


@dataclass(frozen=True, kw_only=True)
class StepSize:
    """What one process computes at a time.

    Attributes:
        rows: examples, or packed rows.
        tokens: of the longest row, image tokens included.
        images: different pictures of all rows together.
        targets: suffix tokens of all rows together, end tokens included.
    """

    rows: int
    tokens: int
    images: int
    targets: int


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes on one device at the moment that needs most of them.

    Attributes:
        moment: "loss", "backward" or "update".
        weights: this device's share of all, trained or not, and of their moving average.
        gradients: that there are by then.
        optimizer: states.
        gathered: weights that came together from all processes, and copies of weights in the dtype of
            products.
        activations: kept for the way back, and what is computed at the moment.
        loss: logits, and what they are made of.
    """

    moment: str
    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    loss: float

    @property
    def total(self) -> float:
        """All of them together."""
        lasting = self.weights + self.optimizer
        return lasting + self.gradients + self.gathered + self.activations + self.loss


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a step is computed.

    Attributes:
        device: "cpu" or "cuda".
        processes: that share the model, see `sharding.shard`.
        compute_dtype: of products.
        recomputation: what blocks compute again on the way back.
        optimizer: of the recipe.
        has_average: whether a moving average of the weights is kept.
    """

    device: str = "cpu"
    processes: int = 1
    compute_dtype: torch.dtype = torch.bfloat16
    recomputation: Recomputation = "none"
    optimizer: OptimizerName = "adamw"
    has_average: bool = False


def training_memory(model: PaliGemma2Model, size: StepSize, way: Way) -> TrainingMemory:
    """What a step of training takes on each device.

    Args:
        model: says what is trained, in which dtype its weights are, and what adapters there are; may be on
            the meta device, where it takes no memory itself.
        size: what a process computes at a time.
        way: how.
    """
    parameters, trained = list(model.parameters()), _trained(model.parameters())
    weights = sum(each.nbytes for each in (*parameters, *model.buffers())) * (2 if way.has_average else 1)
    held = {
        "weights": weights / way.processes,
        "optimizer": STATE_BYTES[way.optimizer] * trained / way.processes,
    }
    moments = [*_ways_back(model, size, way), ("update", _updating(parameters, way))]
    return max(
        (TrainingMemory(moment=moment, **held, **parts) for moment, parts in moments),
        key=lambda memory: memory.total,
    )


class _Block(NamedTuple):
    """A block of either tower, in the order of the forward pass.

    Attributes:
        weights: numbers in all of its weights.
        trained: of them, in those that are trained.
        copied: of them, in matrices that are not in the dtype of products.
        kept: bytes of activations from its forward to its backward pass.
        again: bytes of activations that it computes again for its backward pass.
        passing: bytes of activations that come and go in its backward pass.
    """

    weights: int
    trained: int
    copied: int
    kept: float
    again: float
    passing: float


def _ways_back(model: PaliGemma2Model, size: StepSize, way: Way) -> Iterator[tuple[str, dict[str, float]]]:
    """The moments of the backward pass: the loss first, and then block by block."""
    blocks, rest = _blocks(model, size, way), _rest(model)
    rest_trained = _trained(rest)
    item, shared = way.compute_dtype.itemsize, way.processes > 1
    kept = [block.kept for block in blocks]
    copies = [0 if shared else block.copied * item for block in blocks]
    together = 0.0
    if shared:  # what is in no block stays together, and of the blocks the present and the next one
        together = item * (sum(each.numel() for each in rest) + 2 * max(each.weights for each in blocks))
    # The gradient of the table is there as soon as the loss is.
    at_once = rest_trained * (item if shared else _FLOAT)
    masks = 2 * size.rows * size.tokens**2
    yield (
        "loss",
        {
            "gradients": at_once,
            "gathered": together + sum(copies),
            "activations": sum(kept) + masks,
            "loss": _loss_bytes(model, size, way),
        },
    )
    is_kept = way.recomputation == "none"
    done = 0.0
    for place in reversed(range(len(blocks))):
        block = blocks[place]
        done += _FLOAT * block.trained / way.processes
        own = block.trained * (item + _FLOAT) if shared else 0
        yield (
            "backward",
            {
                "gradients": at_once + done + own,
                "gathered": together + (sum(copies[: place + 1]) if is_kept else copies[place]),
                "activations": sum(kept[: place + 1]) + block.again + block.passing + masks,
                "loss": 0,
            },
        )
    last = rest_trained * _FLOAT if shared else 0  # while it is added up from all processes
    yield "backward", {"gradients": at_once + done + last, "gathered": together, "activations": 0, "loss": 0}


def _updating(parameters: Sequence[nn.Parameter], way: Way) -> dict[str, float]:
    """The fused update makes no copies; that of a CPU by Muon or with 8 bits takes one weight at a time."""
    sizes = [each.numel() for each in parameters if each.requires_grad]
    temporary = 0 if way.optimizer == "adamw" else 2 * max(sizes, default=0)
    gradients = _FLOAT * (sum(sizes) + temporary) / way.processes
    return {"gradients": gradients, "gathered": 0, "activations": 0, "loss": 0}


def _loss_bytes(model: PaliGemma2Model, size: StepSize, way: Way) -> float:
    """The logits of the tokens taken at a time, and hidden states with their gradient."""
    text, item = model.config.text, way.compute_dtype.itemsize
    tokens = min(size.targets, max(1, LOGIT_BYTES // (text.vocab_size * item)))
    block = tokens * BLOCK_ROWS * 3 * _FLOAT
    return tokens * text.vocab_size * item + block + size.targets * text.hidden_size * (item + 2 * _FLOAT)


def _blocks(model: PaliGemma2Model, size: StepSize, way: Way) -> list[_Block]:
    vision, text = model.vision_tower, model.language_model
    blocks = []
    goes_back = _trained(vision.embeddings.parameters()) > 0
    for module in vision.encoder.layers:
        goes_back |= _trained(module.parameters()) > 0
        kept = _of_vision(model, size, way, _trained(module.parameters()) > 0) if goes_back else _NOTHING
        blocks.append(_block(module, kept, way))
    goes_back |= _trained(text.embed_tokens.parameters()) > 0
    goes_back |= _trained(model.multi_modal_projector.parameters()) > 0
    for number, module in enumerate(text.layers):
        goes_back |= _trained(module.parameters()) > 0
        asked = size.targets if number == len(text.layers) - 1 else size.rows * size.tokens
        kept = _of_text(model, size, way, asked, _trained(module.parameters()) > 0)
        blocks.append(_block(module, kept if goes_back else _NOTHING, way))
    return blocks


class _Activations(NamedTuple):
    """Bytes of a block: its input, what products give, what else is kept, and what comes and goes."""

    given: float
    products: float
    others: float
    passing: float


_NOTHING = _Activations(0, 0, 0, 0)


def _block(module: nn.Module, activations: _Activations, way: Way) -> _Block:
    kept, again = activations.given, activations.products + activations.others
    if way.recomputation == "none":
        kept, again = kept + again, 0.0
    elif way.recomputation == "selective":
        kept, again = kept + activations.products, activations.others
    matrices = [each for each in module.parameters() if each.dim() == 2]
    copied = [each.numel() for each in matrices if each.dtype != way.compute_dtype]
    return _Block(
        weights=sum(each.numel() for each in module.parameters()),
        trained=_trained(module.parameters()),
        copied=sum(copied) if activations is not _NOTHING else 0,
        kept=kept,
        again=again,
        passing=activations.passing,
    )


def _of_text(model: PaliGemma2Model, size: StepSize, way: Way, asked: int, is_trained: bool) -> _Activations:
    """A block of the decoder, which gives the tokens that are asked for.

    Products and normalised inputs are in the dtype of products, the residual in that of the weights; matrices
    that are trained keep what they read.
    """
    text, item = model.config.text, way.compute_dtype.itemsize
    width, inner, residual = text.hidden_size, text.intermediate_size, _residual_bytes(model, way)
    queries, keys = text.num_heads * text.head_dim, text.num_kv_heads * text.head_dim
    tokens = size.rows * size.tokens
    read = tokens * width + asked * (width + queries + inner) if is_trained else 0
    others = asked * width * residual + read * item
    return _Activations(
        given=tokens * width * residual,
        products=item * (2 * keys * tokens + asked * (queries + 2 * width + 2 * inner)),
        others=others,
        passing=asked * (4 * inner * item + 4 * width * _FLOAT) + ATTENTION_BYTES[way.device],
    )


def _of_vision(model: PaliGemma2Model, size: StepSize, way: Way, is_trained: bool) -> _Activations:
    """A block of the image encoder; see `_of_text`."""
    vision, item = model.config.vision, way.compute_dtype.itemsize
    width, inner, residual = vision.hidden_size, vision.intermediate_size, _residual_bytes(model, way)
    tokens = size.images * vision.num_image_tokens
    read = 3 * width + inner if is_trained else 0
    return _Activations(
        given=tokens * width * residual,
        products=tokens * item * (4 * width + inner),
        others=tokens * (width * residual + read * item),
        passing=tokens * (2 * inner * item + 4 * width * _FLOAT) + ATTENTION_BYTES[way.device],
    )


def _residual_bytes(model: PaliGemma2Model, way: Way) -> int:
    """Of a number between blocks: as wide as the weights are when they compute."""
    return way.compute_dtype.itemsize if way.processes > 1 else model.dtype.itemsize


def _rest(model: PaliGemma2Model) -> list[nn.Parameter]:
    """The weights that are in no block: the table, the projector, the embedding of patches, last norms."""
    blocks = (*model.vision_tower.encoder.layers, *model.language_model.layers)
    inside = {id(each) for block in blocks for each in block.parameters()}
    return [each for each in model.parameters() if id(each) not in inside]


def _trained(parameters: Iterable[nn.Parameter]) -> int:
    return sum(each.numel() for each in parameters if each.requires_grad)
