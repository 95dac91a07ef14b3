"""Folders whose weights are stored in 8 or 4 bits, which `paligemma2 convert --quantize` writes.

A Hugging Face folder in every other way. `config.json` names the kind under `quantization_config`; beside
each `….weight` of few bits (int8 [out, in], or two numbers of 4 bits in a uint8 [out, in / 2]) stands
`….weight_scale` (bfloat16 [out, groups], see `model.low_bit`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from paligemma2.checkpoint.config_json import read_json
from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.checkpoint.weights import StoredTensor
from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.low_bit import GROUP, Bits, LowBits, pair_up, quantize, take_apart
from paligemma2.model.paligemma2 import linear_shapes
from paligemma2.model.weight_forms import Quantization, bits_of

SCALE = ".weight_scale"
_WEIGHT = ".weight"
_METHOD = "paligemma2"
_KEY = "quantization_config"


def quantization_of(folder: Path) -> Quantization | None:
    """How the weights of a folder are stored; None if as floating-point numbers.

    Raises:
        CheckpointError: in a way that is not known here.
    """
    config = folder / "config.json"
    found = read_json(config).get(_KEY) if config.exists() else None  # another one may have been given
    if found is None:
        return None
    kind = found.get("weights") if isinstance(found, dict) and found.get("quant_method") == _METHOD else None
    if kind not in get_args(Quantization):
        raise CheckpointError(
            f"{folder / 'config.json'}: {_KEY} is {json.dumps(found)[:80]}",
            hint="take the checkpoint that was not quantised, and give quantize='int8' or 'int4'",
        )
    return cast("Quantization", kind)


def check_quantization(quantization: Quantization) -> None:
    """Nothing, if there is such a kind.

    Raises:
        InputError: there is not.
    """
    kinds = get_args(Quantization)
    if quantization not in kinds:
        raise InputError(f"quantize is {quantization!r}", hint=f"use one of {', '.join(kinds)}")


def bits_of_weights(config: ModelConfig, quantization: Quantization) -> dict[str, Bits]:
    """The names of the weights that have few bits, and how many."""
    bits = {name + _WEIGHT: bits_of(quantization, name) for name in linear_shapes(config)}
    return {**bits, EMBEDDING: 8}


def stored_tensors(tensors: Mapping[str, StoredTensor], bits: Mapping[str, Bits]) -> dict[str, StoredTensor]:
    """What a quantised folder holds instead of these tensors, scales right behind their weights."""
    planned: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if name not in bits:
            planned[name] = tensor
            continue
        rows, columns = tensor.shape
        if bits[name] == 8:
            planned[name] = StoredTensor((rows, columns), torch.int8)
            groups = 1
        else:
            planned[name] = StoredTensor((rows, columns // 2), torch.uint8)
            groups = -(-columns // GROUP)
        planned[scale_of(name)] = StoredTensor((rows, groups), torch.bfloat16)
    return planned


def lower(name: str, weight: Tensor, bits: Mapping[str, Bits]) -> Iterator[tuple[str, Tensor]]:
    """What is stored for a tensor."""
    if name not in bits:
        yield name, weight
        return
    low = quantize(weight, bits[name])
    yield name, low.numbers if low.bits == 8 else pair_up(low.numbers)
    yield scale_of(name), low.scales


def raise_again(
    stored: Iterable[tuple[str, Tensor]], bits: Mapping[str, Bits]
) -> Iterator[tuple[str, Tensor | LowBits]]:
    """The inverse of `lower` for all tensors of a folder, in any order.

    What was lowered comes in memory of its own: kernels keep the numbers as they are.
    """
    waiting: dict[str, Tensor] = {}
    for name, tensor in stored:
        weight = name.removesuffix(SCALE) + _WEIGHT if name.endswith(SCALE) else name
        if weight not in bits:
            yield name, tensor
            continue
        waiting[name] = tensor
        if weight in waiting and scale_of(weight) in waiting:
            numbers, scales = waiting.pop(weight), waiting.pop(scale_of(weight))
            whole = numbers.clone() if bits[weight] == 8 else take_apart(numbers)
            yield weight, LowBits(bits=bits[weight], numbers=whole, scales=scales.clone())


def scale_of(weight: str) -> str:
    """The name of the scales of a weight."""
    return weight.removesuffix(_WEIGHT) + SCALE


def mark(folder: Path, quantization: Quantization) -> None:
    """Write into `config.json` how the weights are stored."""
    path = folder / "config.json"
    settings = read_json(path) | {_KEY: {"quant_method": _METHOD, "weights": quantization}}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
