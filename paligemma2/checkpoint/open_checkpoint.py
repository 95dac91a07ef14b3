"""A checkpoint of any kind, found and checked but not read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from paligemma2.checkpoint.big_vision_npz import open_npz
from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.hub import resolve
from paligemma2.checkpoint.layouts import expected_shapes
from paligemma2.checkpoint.quantized_folder import bits_of_weights, quantization_of, stored_tensors
from paligemma2.checkpoint.safetensors_files import open_folder
from paligemma2.checkpoint.weights import StoredTensor, Weights
from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.low_bit import Bits
from paligemma2.model.weight_forms import Quantization


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and weights that fit it.

    Attributes:
        folder: where `config.json`, tokenizer and processor files would be.
        quantization: how the weights are stored if not as floating-point numbers; see `quantized_folder`.
        bits: the names of the weights that have few bits, and how many.
    """

    config: ModelConfig
    weights: Weights
    folder: Path
    quantization: Quantization | None = None
    bits: Mapping[str, Bits] = field(default_factory=dict)


def open_checkpoint(
    source: str | Path,
    config: ModelConfig | None = None,
    *,
    compare_head: bool = True,
    may_be_quantized: bool = False,
) -> Checkpoint:
    """Find a checkpoint and check everything that needs no weights in memory.

    Args:
        source: a Hugging Face folder, a big_vision `.npz`, or a hub id.
        config: instead of the checkpoint's own.
        compare_head: also compare a stored output layer with the embedding, which reads both.
        may_be_quantized: whether the caller knows what to do with weights of few bits.

    Raises:
        InputError: no such thing, or its weights are quantised and may not be.
        ConfigError: the configuration makes no sense.
        CheckpointError: the weights are damaged or do not fit the configuration.
    """
    path = resolve(source)
    if path.is_dir():
        config, quantization = config or read_config(path), quantization_of(path)
        if quantization is not None and not may_be_quantized:
            raise InputError(
                f"{path} holds {quantization} weights, which cannot be changed or stored again",
                hint="take the checkpoint that it was made from; "
                f"only an adapter can be trained on these, with quantize={quantization!r}",
            )
        shapes = expected_shapes(config)
        bits: Mapping[str, Bits] = {}
        if quantization is not None:
            bits = bits_of_weights(config, quantization)
            whole = {name: StoredTensor(shape, torch.float32) for name, shape in shapes.items()}
            shapes = {name: tensor.shape for name, tensor in stored_tensors(whole, bits).items()}
        weights: Weights = open_folder(path, shapes, compare_head=compare_head, integers=bits)
        return Checkpoint(config, weights, path, quantization, bits)
    npz = open_npz(path, config)
    return Checkpoint(npz.config, npz, path.parent)
