"""Tensor parallelism: one model shared by several processes, for inference (arXiv:1909.08053, section 3).

Of the attention each process has some heads, of the MLPs some columns, of the table of embeddings some rows;
what they compute is added up or put together. Everything else is small and the same in all. All processes
must do the same with the model at the same time.

The shares are `DTensor`s, which know what they are a part of. The arithmetic is done on the plain tensors
inside: PyTorch needs a millisecond to work out anew what a layer of `DTensor`s gives in inference mode.
"""

import dataclasses
import math
from typing import Literal, TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model

Split: TypeAlias = Literal["outputs", "inputs"]
"""What of a linear layer is shared out; outputs of the first of a pair are inputs of the second."""


class SharedLinear(nn.Module):
    """A linear layer of which each process computes some outputs, or what some inputs add to all outputs.

    Args:
        linear: gives weight and bias.
        mesh: the processes.
        split: "outputs": takes all inputs, gives this process's outputs. "inputs": takes this process's
            inputs, gives all outputs.
    """

    def __init__(self, linear: nn.Linear, mesh: DeviceMesh, split: Split) -> None:
        super().__init__()
        self._split = split
        self._group = mesh.get_group()
        self.weight = _shared(linear.weight, mesh, Shard(0 if split == "outputs" else 1))
        self.bias = None
        if linear.bias is not None:
            self.bias = _shared(linear.bias, mesh, Shard(0) if split == "outputs" else Replicate())

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs], of which one is a share."""
        bias = None if self.bias is None else _own(self.bias)
        if self._split == "outputs":
            return F.linear(x, _own(self.weight), bias)
        total = F.linear(x, _own(self.weight))
        dist.all_reduce(total, group=self._group)
        return total if bias is None else total + bias


class SharedEmbedding(nn.Module):
    """A table of embeddings that is the output layer too, of which each process has some rows.

    Args:
        table: gives the weight.
        mesh: the processes.
    """

    def __init__(self, table: nn.Embedding, mesh: DeviceMesh) -> None:
        super().__init__()
        self._mesh = mesh
        self._first = mesh.get_local_rank() * -(-table.num_embeddings // mesh.size())
        self.weight = _shared(table.weight, mesh, Shard(0))

    def forward(self, token_ids: Tensor) -> Tensor:
        """The rows of these tokens: int64 [...] to [..., width] in the dtype of the table."""
        rows, places = _own(self.weight), token_ids - self._first
        is_elsewhere = (places < 0) | (places >= len(rows))
        found = F.embedding(places.masked_fill(is_elsewhere, 0), rows)
        found = found.masked_fill(is_elsewhere[..., None], 0.0)
        dist.all_reduce(found, group=self._mesh.get_group())
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: [..., width] to float32 [..., rows], the same in all processes."""
        own = F.linear(hidden, _own(self.weight))
        shape = (*own.shape[:-1], self.weight.shape[0])
        stride = torch.empty(shape, device="meta").stride()
        parts = DTensor.from_local(
            own, self._mesh, [Shard(own.dim() - 1)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return parts.full_tensor().float()


def check_processes(config: ModelConfig, processes: int) -> None:
    """Nothing, if the decoder can be shared out over so many processes.

    Raises:
        InputError: it cannot; the hint says over how many.
    """
    text = config.text
    parts = {"key-value heads": text.num_kv_heads, "columns of the MLP": text.intermediate_size}
    for name, count in parts.items():
        if count % processes:
            most = math.gcd(*parts.values())
            allowed = ", ".join(str(number) for number in range(1, most + 1) if most % number == 0)
            raise InputError(
                f"{count} {name} cannot be shared out evenly over {processes} processes",
                hint=f"start one of these numbers of processes: {allowed}",
            )


def sharing_plan(config: ModelConfig, processes: int) -> dict[str, Split]:
    """What is shared out of which linear layers, by their names.

    Heads and columns of the image encoder are shared out if they divide evenly; else it is whole in each.
    """
    plan: dict[str, Split] = {}
    for layer in range(config.text.num_layers):
        name = f"language_model.layers.{layer}"
        plan |= _pair(f"{name}.self_attn", ("q_proj", "k_proj", "v_proj"), "o_proj")
        plan |= _pair(f"{name}.mlp", ("gate_proj", "up_proj"), "down_proj")
    for layer in range(config.vision.num_layers):
        name = f"vision_tower.encoder.layers.{layer}"
        if config.vision.num_heads % processes == 0:
            plan |= _pair(f"{name}.self_attn", ("q_proj", "k_proj", "v_proj"), "out_proj")
        if config.vision.intermediate_size % processes == 0:
            plan |= _pair(f"{name}.mlp", ("fc1",), "fc2")
    return plan


def parallelize(model: PaliGemma2Model, mesh: DeviceMesh) -> None:
    """Leave each process its share of the model, whose weights are on the meta device or the same in all.

    Args:
        model: takes and gives the same tensors as before, but its caches hold the keys and values of its own
            heads alone.
        mesh: of one dimension, on the device that the weights are meant for.

    Raises:
        InputError: heads or columns of the decoder do not divide evenly.
    """
    check_processes(model.config, mesh.size())
    for name, split in sharing_plan(model.config, mesh.size()).items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, SharedLinear(linear, mesh, split))
    decoder, text = model.language_model, model.config.text
    model.set_submodule("language_model.embed_tokens", SharedEmbedding(decoder.embed_tokens, mesh))
    decoder.config = dataclasses.replace(
        text, num_heads=text.num_heads // mesh.size(), num_kv_heads=text.num_kv_heads // mesh.size()
    )


def own_share(tensor: Tensor, parameter: nn.Parameter, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What this process keeps of a weight that was read whole, in memory of its own.

    Args:
        tensor: the whole weight.
        parameter: of the model after `parallelize`, of the same shape; says which part it is.
        device: where the share goes; the rest never gets there.
        dtype: of the share.
    """
    if not isinstance(parameter, DTensor):
        return tensor.to(device, dtype)
    mesh, (placement,) = parameter.device_mesh, parameter.placements
    share = tensor
    if isinstance(placement, Shard):
        parts = tensor.chunk(mesh.size(), placement.dim)
        rank = mesh.get_local_rank()
        share = parts[rank] if rank < len(parts) else parts[0].narrow(placement.dim, 0, 0)
        share = share.clone(memory_format=torch.contiguous_format)
    return DTensor.from_local(
        share.to(device, dtype),
        mesh,
        [placement],
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _pair(block: str, first: tuple[str, ...], second: str) -> dict[str, Split]:
    return {**{f"{block}.{name}": "outputs" for name in first}, f"{block}.{second}": "inputs"}


def _shared(weight: Tensor, mesh: DeviceMesh, placement: Shard | Replicate) -> nn.Parameter:
    # No process sends its weights to the others: each takes its share of its own.
    return nn.Parameter(distribute_tensor(weight, mesh, [placement], src_data_rank=None))


def _own(parameter: nn.Parameter) -> Tensor:
    assert isinstance(parameter, DTensor)
    return parameter.to_local()
