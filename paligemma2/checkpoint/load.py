"""A checkpoint on disk to a model in memory, tensor by tensor."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.checkpoint.open_checkpoint import Checkpoint, open_checkpoint
from paligemma2.checkpoint.quantized_folder import raise_again, scale_of
from paligemma2.checkpoint.weights import OnProgress, Weights, main_dtype, total_bytes
from paligemma2.model.config import ModelConfig
from paligemma2.model.low_bit import LowBits
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.weight_forms import Quantization, WeightForm, fill, plain_form, quantized_form

log = logging.getLogger(__name__)

Place: TypeAlias = Callable[[str, Tensor], Tensor]
"""From the name of a weight and the weight as it was read to what is kept of it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was loaded.

    Attributes:
        layout: of the file, in words.
        stored_dtype: that most numbers had in the file.
        num_tensors: tensors read.
        num_bytes: bytes read.
        num_zero_rows: rows at the end of the vocabulary that the file does not hold; they are zero.
    """

    layout: str
    stored_dtype: torch.dtype
    num_tensors: int
    num_bytes: int
    num_zero_rows: int


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with its weights.

    Attributes:
        folder: where its tokenizer and processor files would be.
        quantization: how the weights are stored if in few bits.
    """

    model: PaliGemma2Model
    config: ModelConfig
    folder: Path
    report: LoadReport
    quantization: Quantization | None = None


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    config: ModelConfig | None = None,
    form_for: Callable[[torch.dtype], WeightForm] = plain_form,
    may_be_quantized: bool = False,
    low_form_for: Callable[[Quantization, torch.dtype], WeightForm] = quantized_form,
    mesh: DeviceMesh | None = None,
    on_progress: OnProgress | None = None,
) -> LoadedModel:
    """The model of a checkpoint, in evaluation mode.

    Memory on the host holds the model and one tensor besides; nothing of the files stays mapped.

    Args:
        source: a Hugging Face folder, a big_vision `.npz`, or a hub id.
        device: where the weights go, tensor by tensor.
        dtype: of the weights; None keeps the file's own.
        config: instead of the checkpoint's own.
        form_for: given the dtype of the weights, how they are kept; each takes its form as it is read.
        may_be_quantized: whether a folder of weights of few bits is welcome.
        low_form_for: the form of those weights, given their kind and the dtype of activations.
        mesh: processes that share the model; each keeps its part of a tensor as soon as that is read.
        on_progress: called with the bytes done and in all.

    Raises:
        InputError: no such checkpoint, or so many processes cannot share it evenly.
        ConfigError: its configuration makes no sense.
        CheckpointError: its weights are damaged or do not fit; all faults are named at once.
    """
    checkpoint = open_checkpoint(source, config, may_be_quantized=may_be_quantized)
    few_bits = {part for name in checkpoint.bits for part in (name, scale_of(name))}
    report = _report(checkpoint.weights, few_bits)
    if report.num_zero_rows:
        log.info("%s has no filler rows; %d are zero", checkpoint.weights.path, report.num_zero_rows)
    with torch.device("meta"):
        model = PaliGemma2Model(checkpoint.config)
    read_as = dtype or report.stored_dtype
    weights: Iterator[tuple[str, Tensor | LowBits]]
    place = _placing(model, mesh, torch.device(device), read_as, few_bits)
    weights = _read_all(checkpoint, place, on_progress)
    form = form_for(read_as)
    if checkpoint.quantization is not None:
        weights = raise_again(weights, checkpoint.bits)
        form = low_form_for(checkpoint.quantization, form.dtype)
    fill(model, weights, form, table=EMBEDDING)
    model.eval()
    return LoadedModel(
        model=model,
        config=checkpoint.config,
        folder=checkpoint.folder,
        report=report,
        quantization=checkpoint.quantization,
    )


def _report(weights: Weights, few_bits: Collection[str]) -> LoadReport:
    stored = weights.tensors
    return LoadReport(
        layout=weights.layout,
        stored_dtype=main_dtype({name: each for name, each in stored.items() if name not in few_bits}),
        num_tensors=len(stored),
        num_bytes=total_bytes(stored),
        num_zero_rows=weights.num_zero_rows,
    )


def _placing(
    model: PaliGemma2Model,
    mesh: DeviceMesh | None,
    device: torch.device,
    dtype: torch.dtype,
    few_bits: Collection[str],
) -> Place:
    if mesh is None:
        return lambda name, tensor: tensor.to(device, None if name in few_bits else dtype)
    from paligemma2.model.parallel import own_share, parallelize  # which takes a second

    parallelize(model, mesh)
    parameters = dict(model.named_parameters())
    return lambda name, tensor: own_share(tensor, parameters[name], device, dtype)


def _read_all(
    checkpoint: Checkpoint, place: Place, on_progress: OnProgress | None
) -> Iterator[tuple[str, Tensor]]:
    total, done = total_bytes(checkpoint.weights.tensors), 0
    for name, tensor in checkpoint.weights.stream():
        done += tensor.nbytes
        yield name, place(name, tensor)
        if on_progress is not None:
            on_progress(done, total)
