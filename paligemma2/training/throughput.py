"""How long a step of training takes, by arithmetic: products against what processes send each other."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.plan import StepSize

_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a device can do at its best.

    Attributes:
        flops: products of the compute dtype per second, multiplication and addition counted each.
        link_bytes: that it sends per second to the slowest of its neighbours, and receives at the same time.
    """

    flops: float
    link_bytes: float


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How fast a step is.

    Attributes:
        compute_seconds: of the products.
        communication_seconds: of sending weights and gradients, which goes on beside the products.
        step_seconds: the longer of the two.
        examples_per_second: of all processes together.
        tokens_per_second: of all processes together, image tokens included.
    """

    compute_seconds: float
    communication_seconds: float
    step_seconds: float
    examples_per_second: float
    tokens_per_second: float


def step_flops(model: PaliGemma2Model, size: StepSize) -> float:
    """Floating-point operations of a step of one process that the model asks for, recomputation not counted.

    Each weight of a matrix is multiplied with each token once forward (two operations), and twice back where
    it is trained itself, else once. Attention counts 4 x queries x keys x width forward and twice that back.

    Args:
        model: says what is trained; may be on the meta device.
        size: what the process computes.
    """
    vision, text = model.config.vision, model.config.text
    patches, tokens = size.images * vision.num_image_tokens, size.rows * size.tokens
    encodes_back = any(each.requires_grad for each in model.vision_tower.parameters())
    width = vision.hidden_size * vision.num_layers
    tower = _products(model.vision_tower) * patches
    tower += _attention(patches, vision.num_image_tokens, width, encodes_back)
    decoder = sum(_products(layer) for layer in model.language_model.layers) * tokens
    heads = text.num_heads * text.head_dim
    decoder += _attention(tokens, size.tokens, heads * text.num_layers, True)
    table: Tensor = model.language_model.embed_tokens.weight
    head = table.numel() * (6 if table.requires_grad else 4) * size.targets
    return tower + decoder + _products(model.multi_modal_projector) * patches + head


def communication_bytes(model: PaliGemma2Model, processes: int, compute_dtype: torch.dtype) -> float:
    """Bytes that each process receives in a step, and sends.

    All weights come together for the forward pass and those of the blocks again for the backward pass, in
    the dtype of products; gradients of what is trained are added up in float32. Of everything a process has
    one share already.

    Args:
        model: says what is trained; may be on the meta device.
        processes: that share the model.
        compute_dtype: of products.
    """
    blocks = (*model.vision_tower.encoder.layers, *model.language_model.layers)
    inside = sum(each.numel() for block in blocks for each in block.parameters())
    everything = sum(each.numel() for each in model.parameters())
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    sent: int = (everything + inside) * compute_dtype.itemsize + trained * _FLOAT
    return sent * (processes - 1) / processes


def throughput(
    model: PaliGemma2Model,
    size: StepSize,
    processes: int,
    hardware: Hardware,
    *,
    utilisation: float,
    parts: int = 1,
    compute_dtype: torch.dtype = torch.bfloat16,
) -> Throughput:
    """How fast a step is, if products and messages are at the same time.

    Args:
        model: says what is trained; may be on the meta device.
        size: what a process computes at a time.
        processes: that share the model.
        hardware: of each.
        utilisation: share of `hardware.flops` that the operations of `step_flops` reach (MFU); what is
            computed again is part of the rest.
        parts: of the batch that a process computes one after the other; weights come together for each.
        compute_dtype: of products.
    """
    compute = parts * step_flops(model, size) / (hardware.flops * utilisation)
    sending = parts * communication_bytes(model, processes, compute_dtype) / hardware.link_bytes
    seconds, rows = max(compute, sending), processes * parts * size.rows
    return Throughput(
        compute_seconds=compute,
        communication_seconds=sending,
        step_seconds=seconds,
        examples_per_second=rows / seconds,
        tokens_per_second=rows * size.tokens / seconds,
    )


def _products(module: nn.Module) -> float:
    """Operations for each token: forward, back to the inputs, and back to the weights that are trained."""
    matrices = [each for each in module.parameters() if each.dim() >= 2]
    is_trained = any(each.requires_grad for each in module.parameters())
    if not is_trained:
        return sum(2 * each.numel() for each in matrices)
    return sum((6 if each.requires_grad else 4) * each.numel() for each in matrices)


def _attention(queries: int, keys: int, width: int, goes_back: bool) -> float:
    return 4 * queries * keys * width * (3 if goes_back else 1)
