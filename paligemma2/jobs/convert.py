"""A checkpoint to another layout or dtype, tensor by tensor."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.checkpoint.atomic import new_file, new_folder
from paligemma2.checkpoint.big_vision_npz import infer_config, write_npz
from paligemma2.checkpoint.config_json import config_to_json, read_config
from paligemma2.checkpoint.layouts import big_vision_arrays, stored_name
from paligemma2.checkpoint.merging import MergedWeights
from paligemma2.checkpoint.open_checkpoint import Checkpoint, open_checkpoint
from paligemma2.checkpoint.quantized_folder import (
    bits_of_weights,
    check_quantization,
    lower,
    mark,
    stored_tensors,
)
from paligemma2.checkpoint.safetensors_writer import SafetensorsWriter
from paligemma2.checkpoint.save import write_settings
from paligemma2.checkpoint.weights import OnProgress, StoredTensor, dtype_name, main_dtype, total_bytes
from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.weight_forms import Quantization

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What was written.

    Attributes:
        source: the folder or file that was read.
        destination: the folder or file that was written.
        dtype: of most numbers written, or the kind of few bits.
        num_tensors: tensors of the model.
        num_dropped_rows: rows of the vocabulary (`<image>` and filler) that have no place in a `.npz`.
        num_zero_rows: rows that the source did not hold and that were written as zeros.
        tokenizer_files: copied into the folder; empty if the source has none.
    """

    source: Path
    destination: Path
    dtype: str
    num_tensors: int
    num_dropped_rows: int = 0
    num_zero_rows: int = 0
    tokenizer_files: tuple[str, ...] = ()


def run(
    source: str | Path,
    destination: str | Path,
    *,
    dtype: torch.dtype | None = None,
    quantize: Quantization | None = None,
    adapter: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConvertReport:
    """Convert a checkpoint; memory holds at most the largest tensor twice.

    Args:
        source: a Hugging Face folder, a big_vision `.npz`, or a hub id.
        destination: a big_vision file if it ends in `.npz`, else a Hugging Face folder.
        dtype: of the stored weights; None keeps that of each tensor.
        quantize: round weights to 8 or 4 bits, for a folder that cannot be converted again.
        adapter: a folder of `peft` with a LoRA that is merged into the weights, before they are rounded.
        overwrite: replace what exists.
        on_progress: called with the bytes read and in all.

    Raises:
        InputError: no such source or adapter, the destination exists, the weights of the source are rounded
            already, or a `.npz` is to be quantised.
        ConfigError: the source's configuration makes no sense, or settings of the adapter are not supported.
        CheckpointError: weights are damaged or do not fit.
        WorkError: the disk is full; what was there before is unchanged.
    """
    checkpoint, destination = open_checkpoint(source), Path(destination)
    if destination.resolve() == checkpoint.weights.path.resolve():
        raise InputError(f"{destination} would be written over itself", hint="give another destination")
    if adapter is not None:
        merged = MergedWeights(checkpoint.weights, read_adapter(adapter, checkpoint.config))
        checkpoint = dataclasses.replace(checkpoint, weights=merged)
    dtypes = {name: dtype or tensor.dtype for name, tensor in checkpoint.weights.tensors.items()}
    progress = _Progress(checkpoint.weights.tensors, on_progress)
    if quantize is not None:
        check_quantization(quantize)
    if destination.suffix != ".npz":
        return _to_folder(checkpoint, destination, dtypes, quantize, overwrite, progress)
    if quantize is not None:
        raise InputError("a .npz holds no quantised weights", hint="give a folder as the destination")
    return _to_npz(checkpoint, destination, dtypes, overwrite, progress)


class _Progress:
    def __init__(self, tensors: Mapping[str, StoredTensor], on_progress: OnProgress | None) -> None:
        self._tensors, self._on_progress = tensors, on_progress
        self._done, self._total = 0, total_bytes(tensors)

    def add(self, name: str, tensor: Tensor) -> Tensor:
        self._done += self._tensors[name].num_bytes
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return tensor


def _to_folder(
    checkpoint: Checkpoint,
    destination: Path,
    dtypes: Mapping[str, torch.dtype],
    quantize: Quantization | None,
    overwrite: bool,
    progress: _Progress,
) -> ConvertReport:
    weights = checkpoint.weights
    planned = {name: StoredTensor(stored.shape, dtypes[name]) for name, stored in weights.tensors.items()}
    bits = {} if quantize is None else bits_of_weights(checkpoint.config, quantize)
    kept = stored_tensors(planned, bits)
    announced = {stored_name(name, "legacy"): tensor for name, tensor in kept.items()}
    with new_folder(destination, overwrite=overwrite) as partial:
        copied = write_settings(
            partial, checkpoint.config, dtype=main_dtype(planned), files_from=checkpoint.folder
        )
        with SafetensorsWriter(partial, announced) as writer:
            for name, tensor in weights.stream():
                for part, stored in lower(name, progress.add(name, tensor), bits):
                    writer.write(stored_name(part, "legacy"), stored)
        if quantize is not None:
            mark(partial, quantize)
    if weights.num_zero_rows:
        log.info("%d filler rows of the vocabulary are written as zeros", weights.num_zero_rows)
    return ConvertReport(
        source=weights.path,
        destination=destination,
        dtype=quantize or dtype_name(main_dtype(planned)),
        num_tensors=len(planned),
        num_zero_rows=weights.num_zero_rows,
        tokenizer_files=copied,
    )


def _to_npz(
    checkpoint: Checkpoint,
    destination: Path,
    dtypes: Mapping[str, torch.dtype],
    overwrite: bool,
    progress: _Progress,
) -> ConvertReport:
    weights, config = checkpoint.weights, checkpoint.config
    planned = {name: StoredTensor(stored.shape, dtypes[name]) for name, stored in weights.tensors.items()}
    main = dtype_name(main_dtype(planned))
    settings = _settings_beside(checkpoint, destination)
    with new_file(destination, overwrite=overwrite) as partial:
        write_npz(partial, config, dtypes, lambda name: progress.add(name, weights.read(name)))
        if settings is not None:
            text = json.dumps(config_to_json(config, dtype=main), indent=2) + "\n"
            settings.write_text(text, encoding="utf-8")
    num_dropped = config.text.vocab_size - config.num_text_rows - weights.num_zero_rows
    if num_dropped:
        log.info("%d rows of the vocabulary have no place in a .npz and are dropped", num_dropped)
    return ConvertReport(
        source=weights.path,
        destination=destination,
        dtype=main,
        num_tensors=len(planned),
        num_dropped_rows=num_dropped,
    )


def _settings_beside(checkpoint: Checkpoint, destination: Path) -> Path | None:
    """Where `config.json` must be written for the `.npz` to be read again; None if it need not be."""
    beside = destination.parent / "config.json"
    if beside.exists():
        if read_config(beside.parent) == checkpoint.config:
            return None
        raise CheckpointError(
            f"{beside} describes another model than the one to write",
            hint="choose another folder for the .npz",
        )
    arrays = {array.name: array.shape for array in big_vision_arrays(checkpoint.config)}
    try:
        inferred = infer_config(destination, arrays)
    except CheckpointError:
        return beside
    return None if inferred == checkpoint.config else beside
