"""A model to a Hugging Face folder: weights, `config.json`, and the files a processor needs."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from paligemma2.checkpoint.atomic import new_folder, write_json
from paligemma2.checkpoint.config_json import config_to_json, read_json
from paligemma2.checkpoint.layouts import KeyLayout, stored_name
from paligemma2.checkpoint.mask_codec_files import RECORD_FILE
from paligemma2.checkpoint.safetensors_writer import MAX_SHARD_SIZE, SafetensorsWriter
from paligemma2.checkpoint.weights import StoredTensor, dtype_name, main_dtype
from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import TrainableLora, base_parameters
from paligemma2.model.weight_forms import is_packed

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PREPROCESSOR_FILE = "preprocessor_config.json"


def save_model(
    folder: Path,
    model: nn.Module,
    config: ModelConfig,
    *,
    dtype: torch.dtype | None = None,
    files_from: Path | None = None,
    key_layout: KeyLayout = "legacy",
    max_shard_size: int = MAX_SHARD_SIZE,
    overwrite: bool = False,
    records: Mapping[str, Mapping[str, object]] | None = None,
    gather: Callable[[Tensor], Tensor] = lambda parameter: parameter,
) -> None:
    """Write a folder that this package and `transformers` load.

    It is written beside `folder` and renamed at the end; an error leaves what was there before.

    Args:
        folder: the new folder.
        model: a `PaliGemma2Model`, or a module with its parameters; attached adapters are left out.
        config: the model's configuration.
        dtype: of the stored weights; None keeps the model's own.
        files_from: a folder whose tokenizer and image processor files belong to the model.
        key_layout: names as in the released files ("legacy"), or as `transformers` 5 holds them ("new").
        max_shard_size: bytes per weight file.
        overwrite: replace an existing folder, with all that is in it.
        records: further JSON files of the folder by name, such as how the model came about; what JSON does
            not know is written as text.
        gather: brings a parameter together of which this process holds a part; called once for each, in
            their order.

    Raises:
        InputError: the folder exists, `dtype` cannot be stored, the weights are packed or of few bits, or an
            adapter is in training.
        WorkError: the disk is full.
    """
    _check_can_be_saved(model)
    parameters = base_parameters(model)
    tensors = {name: StoredTensor(tuple(p.shape), dtype or p.dtype) for name, p in parameters.items()}
    with new_folder(folder, overwrite=overwrite) as partial:
        write_settings(partial, config, dtype=main_dtype(tensors), files_from=files_from)
        for name, record in (records or {}).items():
            write_json(partial / name, record)
        announced = {stored_name(name, key_layout): tensor for name, tensor in tensors.items()}
        with SafetensorsWriter(partial, announced, max_shard_size=max_shard_size) as writer:
            for name, parameter in parameters.items():
                writer.write(stored_name(name, key_layout), gather(parameter))


def _check_can_be_saved(model: nn.Module) -> None:
    if any(isinstance(module, TrainableLora) for module in model.modules()):
        raise InputError(
            "the model has an adapter in training, which a folder of its weights would lack",
            hint="save the adapter alone: `save_adapter(folder, take_out(model), config)`",
        )
    if is_packed(model):
        raise InputError(
            "weights that are packed for inference or of few bits cannot be saved",
            hint="load the model with for_training=True alone; `paligemma2 convert` copies a checkpoint",
        )


def write_settings(
    folder: Path, config: ModelConfig, *, dtype: torch.dtype, files_from: Path | None
) -> tuple[str, ...]:
    """Write everything but the weights: `config.json`, generation and image settings, tokenizer files, the
    name of the mask codec.

    Args:
        folder: exists.
        config: the model.
        dtype: of the weights that will be stored.
        files_from: whose tokenizer, image processor and mask codec files are copied, if it has them.

    Returns:
        The names of the tokenizer files that were copied.
    """
    write_json(folder / "config.json", config_to_json(config, dtype=dtype_name(dtype)))
    generation = {
        "_from_model_config": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    write_json(folder / "generation_config.json", generation)
    write_json(folder / _PREPROCESSOR_FILE, preprocessor_settings(config, files_from))
    if files_from is None:
        return ()
    copied = tuple(name for name in TOKENIZER_FILES if (files_from / name).is_file())
    record = (RECORD_FILE,) if (files_from / RECORD_FILE).is_file() else ()
    for name in (*copied, *record):
        shutil.copyfile(files_from / name, folder / name)
    return copied


def preprocessor_settings(config: ModelConfig, files_from: Path | None = None) -> dict[str, object]:
    """The content of `preprocessor_config.json`, as in the released checkpoints.

    Args:
        config: gives the size of the pictures.
        files_from: a folder whose own settings are kept, but for the size.
    """
    settings: dict[str, object] = {
        "do_convert_rgb": True,  # null in the released files, which then refuse grey pictures
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "PaliGemmaProcessor",
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
    }
    if files_from is not None and (files_from / _PREPROCESSOR_FILE).is_file():
        settings |= read_json(files_from / _PREPROCESSOR_FILE)
    size = config.vision.image_size
    # The size follows the model, which may have been raised in resolution since.
    return settings | {
        "image_seq_length": config.num_image_tokens,
        "size": {"height": size, "width": size},
    }
