"""A checkpoint of any kind, found and checked but not read."""

from dataclasses import dataclass
from pathlib import Path

from paligemma2.checkpoint.big_vision_npz import open_npz
from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.hub import resolve
from paligemma2.checkpoint.layouts import expected_shapes
from paligemma2.checkpoint.safetensors_files import open_folder
from paligemma2.checkpoint.weights import Weights
from paligemma2.model.config import ModelConfig


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and weights that fit it.

    Attributes:
        folder: where `config.json`, tokenizer and processor files would be.
    """

    config: ModelConfig
    weights: Weights
    folder: Path


def open_checkpoint(
    source: str | Path, config: ModelConfig | None = None, *, compare_head: bool = True
) -> Checkpoint:
    """Find a checkpoint and check everything that needs no weights in memory.

    Args:
        source: a Hugging Face folder, a big_vision `.npz`, or a hub id.
        config: instead of the checkpoint's own.
        compare_head: also compare a stored output layer with the embedding, which reads both.

    Raises:
        InputError: no such thing.
        ConfigError: the configuration makes no sense.
        CheckpointError: the weights are damaged or do not fit the configuration.
    """
    path = resolve(source)
    if path.is_dir():
        config = config or read_config(path)
        weights: Weights = open_folder(path, expected_shapes(config), compare_head=compare_head)
        return Checkpoint(config, weights, path)
    npz = open_npz(path, config)
    return Checkpoint(npz.config, npz, path.parent)
