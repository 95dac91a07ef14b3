"""What a transfer will need, before it begins: memory on each device, and what to change for less."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.open_checkpoint import Checkpoint, open_checkpoint
from paligemma2.configuration import with_settings
from paligemma2.data.training_data import TrainingData
from paligemma2.errors import InputError
from paligemma2.inference.devices import device_named
from paligemma2.jobs.predict_memory import available_memory
from paligemma2.jobs.transfer_config import TransferConfig, base_dtype
from paligemma2.jobs.transfer_task import open_transfer_data
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora_training import add_fresh_adapter
from paligemma2.model.low_bit import GROUP
from paligemma2.model.paligemma2 import PaliGemma2Model, linear_shapes
from paligemma2.model.weight_forms import bits_of
from paligemma2.processing.processor import Processor, count_pictures
from paligemma2.training.parts import freeze
from paligemma2.training.plan import StepSize, TrainingMemory, Way, training_memory
from paligemma2.training.trainer import bfloat16_is_fast

_SAMPLED = 512
_SCALE_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A change of the settings, in words, and the bytes that a device needs with it."""

    change: str
    total: float


@dataclass(frozen=True, kw_only=True)
class TransferPlan:
    """What a transfer needs.

    Attributes:
        device: "cpu" or "cuda".
        devices: how many share the model.
        steps: updates.
        examples: to train on.
        parameters: of the model, adapters included.
        trained: of them, those that are trained.
        size: what a device computes at a time; lengths are the largest of a sample of the examples.
        memory: bytes on each device.
        available: bytes of this device that are free; None where that is not known.
        alternatives: changes that need less, the smallest last.
    """

    device: str
    devices: int
    steps: int
    examples: int
    parameters: int
    trained: int
    size: StepSize
    memory: TrainingMemory
    available: int | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, kw_only=True)
class _Lengths:
    """The largest of a sample of examples: tokens in all, of the suffix, and pictures."""

    total: int
    suffix: int
    pictures: int


def plan(config: TransferConfig, *, devices: int = 1) -> TransferPlan:
    """What `transfer.run` would need; reads the data and the header of the checkpoint, and loads no weights.

    Args:
        config: of the transfer.
        devices: how many share the model.

    Raises:
        InputError: no such model, or fewer examples in a batch than devices.
        DataError: the examples cannot be used.
        ConfigError: settings that do not fit the model.
        CheckpointError: the files of the model are damaged.
    """
    if devices > config.training.batch_size:
        raise InputError(
            f"{devices} devices for batches of {config.training.batch_size} examples",
            hint="give a larger training.batch_size",
        )
    checkpoint = open_checkpoint(TINY_FOLDER if config.model == "tiny" else config.model)
    device = device_named("auto")
    data = _opened(config, checkpoint)
    lengths = _lengths(data)
    model, size, memory = _needs(config, checkpoint.config, lengths, devices, device)
    return TransferPlan(
        device=device.type,
        devices=devices,
        steps=config.num_steps(data.num_examples),
        examples=data.num_examples,
        parameters=sum(each.numel() for each in model.parameters()),
        trained=sum(each.numel() for each in model.parameters() if each.requires_grad),
        size=size,
        memory=memory,
        available=available_memory(device),
        alternatives=tuple(
            sorted(
                (
                    Alternative(change=change, total=total)
                    for change, other, count in _changes(config, devices)
                    if (total := _needs(other, checkpoint.config, lengths, count, device)[2].total)
                    < memory.total
                ),
                key=lambda each: -each.total,
            )
        ),
    )


def _opened(config: TransferConfig, checkpoint: Checkpoint) -> TrainingData:
    processor = Processor.from_folder(checkpoint.folder, checkpoint.config)
    return open_transfer_data(config, processor, batch_size=config.training.batch_size).training


def _lengths(data: TrainingData) -> _Lengths:
    """Of some examples from all over the data, without reading a picture."""
    every = max(1, data.num_examples // _SAMPLED)
    examples = [data.example(place) for place in range(0, data.num_examples, every)]
    rows = [data.processor.training_row(each, data.rules.max_text_tokens) for each in examples]
    return _Lengths(
        total=max(len(prompt) + len(suffix) for prompt, suffix in rows),
        suffix=max(len(suffix) for _, suffix in rows),
        pictures=max(count_pictures(each.images) for each in examples),
    )


def _needs(
    config: TransferConfig, model_config: ModelConfig, lengths: _Lengths, devices: int, device: torch.device
) -> tuple[PaliGemma2Model, StepSize, TrainingMemory]:
    recipe = config.training
    with torch.device("meta"):
        model = PaliGemma2Model(model_config)
    model.to(torch.bfloat16 if base_dtype(config, device) == "auto" else torch.float32)
    if config.lora is not None:
        add_fresh_adapter(model, config.lora)
    freeze(model, recipe.freeze)
    size = _step_size(config, lengths, devices)
    is_half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and bfloat16_is_fast(device))
    way = Way(
        device=device.type,
        processes=devices,
        compute_dtype=torch.bfloat16 if is_half else torch.float32,
        recomputation=recipe.recomputation,
        optimizer=recipe.optimizer,
        has_average=recipe.average_decay is not None,
    )
    memory = training_memory(model, size, way)
    saved = _saved_by_few_bits(config, model)
    return model, size, replace(memory, weights=memory.weights - saved / devices)


def _step_size(config: TransferConfig, lengths: _Lengths, devices: int) -> StepSize:
    recipe = config.training
    examples = math.ceil(recipe.batch_size / devices)
    examples = min(examples, recipe.micro_batch_size or examples)
    rows, tokens = examples, lengths.total
    if recipe.packed_length is not None:
        rows, tokens = math.ceil(examples * lengths.total / recipe.packed_length), recipe.packed_length
    return StepSize(
        rows=rows, tokens=tokens, images=examples * lengths.pictures, targets=examples * lengths.suffix
    )


def _saved_by_few_bits(config: TransferConfig, model: PaliGemma2Model) -> float:
    """Bytes by which the weights of linear layers and the table are smaller than in the model's dtype."""
    if config.quantize is None:
        return 0.0
    text, item = model.config.text, model.dtype.itemsize
    saved: float = text.vocab_size * (text.hidden_size * (item - 1) - _SCALE_BYTES)
    for name, (rows, columns) in linear_shapes(model.config).items():
        bits = bits_of(config.quantize, name)
        scales = rows * (1 if bits == 8 else math.ceil(columns / GROUP))
        saved += rows * columns * (item - bits / 8) - scales * _SCALE_BYTES
    return saved


def _changes(config: TransferConfig, devices: int) -> Iterator[tuple[str, TransferConfig, int]]:
    """What can be changed to need less, one thing at a time: in words, as settings, on how many devices."""
    for setting in (
        "training.micro_batch_size=1",
        "training.recomputation=selective",
        "training.recomputation=full",
        "training.freeze=image",
        "training.optimizer=adamw_8bit",
    ):
        yield setting, with_settings(config, [setting]), devices
    if config.lora is None:
        capped = replace(config, has_final_cap=True)  # an adapter cannot do without
        yield "lora.rank=8", with_settings(capped, ["lora.rank=8"]), devices
    elif config.quantize is None:
        yield "quantize=int4", with_settings(config, ["quantize=int4"]), devices
    for more in (2, 4, 8, 16, 32, 64):
        if more > devices and more <= config.training.batch_size:
            yield f"{more} devices", config, more
