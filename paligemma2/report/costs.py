"""What it costs to train and to evaluate a row of the card, by arithmetic.

Operations are those that the model asks for, multiplication and addition counted each; time is these over a
stated share of what a GPU can do at its best. What is recomputed, waiting for data, and messages between GPUs
are part of the rest of that share.
"""

from dataclasses import dataclass

import torch
from torch import nn

from paligemma2.model.config import ModelConfig
from paligemma2.model.memory import inference_memory
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.parts import freeze
from paligemma2.training.plan import StepSize, TrainingMemory, Way, training_memory
from paligemma2.training.throughput import step_flops

UTILISATION = 0.4
"""Share of the peak that products are taken to reach; an assumption, not a measurement."""
ANSWER_TOKENS = 32
"""Length of an answer, or the text length of the task where that is less; most answers are shorter."""
_USABLE = 0.9
_BATCHES = (64, 32, 16, 8, 4, 2, 1)
_DEVICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU at its best, from its maker's data sheet.

    Attributes:
        title: for people.
        flops: bfloat16 products per second without sparsity, multiplication and addition counted each.
        bandwidth: bytes per second from its memory.
        memory: bytes.
    """

    title: str
    flops: float
    bandwidth: float
    memory: float


DEVICES = {
    "a100": Device(title="NVIDIA A100 80GB SXM", flops=312e12, bandwidth=2.039e12, memory=80e9),
    "h100": Device(title="NVIDIA H100 SXM", flops=989e12, bandwidth=3.35e12, memory=80e9),
    "h200": Device(title="NVIDIA H200 SXM", flops=989e12, bandwidth=4.8e12, memory=141e9),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large an example of a task is.

    Attributes:
        pictures: of each example, frames of a video counted each.
        text_tokens: of prompt and answer together in training; of the prompt in evaluation.
        answer_tokens: of them, those of the answer; that are written in evaluation.
        beams: answers that are kept side by side in evaluation.
    """

    pictures: int
    text_tokens: int
    answer_tokens: int
    beams: int = 1


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """Of a transfer.

    Attributes:
        flops: of all updates.
        gpu_hours: on all GPUs together.
        devices: that are needed to hold the model and its training; None where 64 are too few.
        memory: of each of them.
    """

    flops: float
    gpu_hours: float
    devices: int | None
    memory: TrainingMemory


@dataclass(frozen=True, kw_only=True)
class EvaluationCost:
    """Of predicting a split.

    Attributes:
        flops: of all examples.
        gpu_hours: on one GPU.
        batch: prompts that are answered side by side; None where not even one fits.
        memory: bytes on the GPU, weights in bfloat16.
    """

    flops: float
    gpu_hours: float
    batch: int | None
    memory: float


def meta_model(config: ModelConfig, *, is_image_frozen: bool) -> PaliGemma2Model:
    """The model in float32, as the transfers have it, without taking memory."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    if is_image_frozen:
        freeze(model, ("image",))
    return model


def training_cost(
    model: PaliGemma2Model,
    shape: Shape,
    examples: float,
    device: Device,
    *,
    utilisation: float = UTILISATION,
) -> TrainingCost:
    """What a transfer costs.

    Memory is with weights and optimiser states in float32, products in bfloat16, one example at a time on
    each GPU, and blocks that keep their products and compute the rest again.

    Args:
        model: on the meta device; says what is trained.
        shape: of an example.
        examples: that training sees, over all epochs.
        device: the GPU.
        utilisation: share of its peak that is reached.
    """
    image_tokens = shape.pictures * model.config.num_image_tokens
    size = StepSize(
        rows=1,
        tokens=image_tokens + shape.text_tokens,
        images=shape.pictures,
        targets=shape.answer_tokens,
    )
    flops = step_flops(model, size) * examples
    for count in _DEVICES:
        way = Way(device="cuda", processes=count, recomputation="selective")
        memory = training_memory(model, size, way)
        if memory.total <= _USABLE * device.memory:
            break
    return TrainingCost(
        flops=flops,
        gpu_hours=flops / (device.flops * utilisation) / 3600,
        devices=count if memory.total <= _USABLE * device.memory else None,
        memory=memory,
    )


def evaluation_cost(
    model: PaliGemma2Model,
    shape: Shape,
    examples: float,
    device: Device,
    *,
    utilisation: float = UTILISATION,
) -> EvaluationCost:
    """What predicting costs: reading prompts is bound by products, writing mostly by reading the weights.

    Args:
        model: on the meta device.
        shape: of an example.
        examples: to predict.
        device: the GPU.
        utilisation: share of its peak, of products and of memory, that is reached.
    """
    image_tokens = shape.pictures * model.config.num_image_tokens
    prompt = image_tokens + shape.text_tokens
    batch, memory = _batch(model.config, shape, prompt, device)
    steps = max(shape.answer_tokens - 1, 0)  # reading the prompt gives the first token
    reading = read_flops(model, shape.pictures, prompt)
    context = prompt + shape.answer_tokens / 2
    writing = write_flops(model, context) * shape.beams
    moved = _moved_bytes(model.config, context, (batch or 1) * shape.beams) / (batch or 1)
    seconds = reading / (device.flops * utilisation)
    seconds += steps * max(writing / device.flops, moved / device.bandwidth) / utilisation
    return EvaluationCost(
        flops=(reading + steps * writing) * examples,
        gpu_hours=seconds * examples / 3600,
        batch=batch,
        memory=memory,
    )


def read_flops(model: PaliGemma2Model, pictures: int, tokens: int) -> float:
    """Operations to encode pictures and read a prompt, up to the logits of the first token.

    Args:
        model: on any device.
        pictures: of the prompt.
        tokens: of the prompt, image tokens included; all see each other.
    """
    vision, text = model.config.vision, model.config.text
    patches = pictures * vision.num_image_tokens
    tower = 2 * _matrices(model.vision_tower, without="position_embedding") * patches
    tower += 4 * patches * vision.num_image_tokens * vision.hidden_size * vision.num_layers
    projector = 2 * _matrices(model.multi_modal_projector) * patches
    decoder = 2 * _matrices(model.language_model.layers) * tokens
    decoder += 4 * tokens * tokens * text.num_heads * text.head_dim * text.num_layers
    return tower + projector + decoder + 2 * text.vocab_size * text.hidden_size


def write_flops(model: PaliGemma2Model, context: float) -> float:
    """Operations of one more token.

    Args:
        model: on any device.
        context: tokens that it sees.
    """
    text = model.config.text
    attention = 4 * context * text.num_heads * text.head_dim * text.num_layers
    return 2 * (_matrices(model.language_model.layers) + text.vocab_size * text.hidden_size) + attention


def _moved_bytes(config: ModelConfig, context: float, rows: int) -> float:
    """Bytes of weights, and of keys and values of some rows, that a step of writing reads in bfloat16."""
    text = config.text
    per_layer = text.hidden_size * text.head_dim * 2 * (text.num_heads + text.num_kv_heads)
    per_layer += 3 * text.hidden_size * text.intermediate_size
    weights = per_layer * text.num_layers + text.vocab_size * text.hidden_size
    cached = 2 * text.num_layers * text.num_kv_heads * text.head_dim * context * rows
    return 2 * (weights + cached)


def _batch(config: ModelConfig, shape: Shape, prompt: int, device: Device) -> tuple[int | None, float]:
    """The largest batch that fits, and the bytes it takes; of one prompt where not even that fits."""
    for batch in _BATCHES:
        total = inference_memory(
            config,
            batch=batch * shape.beams,
            images=batch * shape.pictures,
            prompt_tokens=prompt,
            max_new_tokens=shape.answer_tokens,
            dtype=torch.bfloat16,
        ).total
        if total <= _USABLE * device.memory:
            return batch, total
    return None, total


def _matrices(module: nn.Module, without: str = "-") -> int:
    """Numbers in all weights that are multiplied with each token."""
    named = module.named_parameters()
    return sum(each.numel() for name, each in named if each.dim() >= 2 and without not in name)
