"""Training that several processes share: FSDP2, `torch.distributed.fsdp.fully_shard` (arXiv:2304.11277).

Each process holds some rows of every weight, of its gradient and of its optimiser states. The rows of a block
come together when the block computes, in its forward and again in its backward pass; the gradients of a block
are added up as soon as it has them, and each process keeps its rows. The processes compute on different
examples of the same batch.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from paligemma2.checkpoint.save import save_model
from paligemma2.errors import CheckpointError, ConfigError
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import base_parameters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.state_files import own_rows
from paligemma2.training.team import Team, team_of

Batch = TypeVar("Batch")
_T = TypeVar("_T")


class SharedObjective(nn.Module, Generic[Batch]):
    """The loss of the batch of all processes, of which each computes its share.

    Args:
        model: of which the objective is the loss; its weights come together within `forward` and `together`.
        objective: the mean loss of a batch, a scalar with gradient.
        weigh: what the mean of a batch counts among those of the others: its examples, or its tokens.
    """

    def __init__(
        self, model: PaliGemma2Model, objective: Callable[[Batch], Tensor], weigh: Callable[[Batch], float]
    ) -> None:
        super().__init__()
        self.model = model
        self._objective = objective
        self._weigh = weigh
        self._team = Team()

    def forward(self, batch: Batch) -> Tensor:
        """The loss of this process's share, as part of that of all.

        Returns:
            A scalar: in all processes the mean over the shares of all, but with the gradient of its own share
            alone, which the backward pass adds to those of the others.
        """
        own = self._objective(batch)
        weight = self._weigh(batch)
        sums = torch.stack((own.detach() * weight, torch.full_like(own.detach(), weight)))
        if self._team.group is not None:
            dist.all_reduce(sums, group=self._team.group)
        total = sums[1].clamp(min=1.0)  # a batch without any token to learn has the loss zero
        part: Tensor = _Part.apply(own * (weight / total), sums[0] / total)  # type: ignore[no-untyped-call]
        return part

    def weight_of(self, batch: Batch) -> float:
        """What the batch counts, the shares of all processes together."""
        weight = torch.tensor(self._weigh(batch), device=next(self.model.parameters()).device)
        if self._team.group is not None:
            dist.all_reduce(weight, group=self._team.group)
        return weight.item()

    def together(self, work: Callable[[], _T]) -> _T:
        """Do work without gradients that asks the model itself, such as to write answers.

        All processes do the same work. The weights of a layer come together as it computes, once for every
        token that is written, and the hidden states that tokens are chosen from are those of the first
        process in all of them: no rounding can make one write on while another has come to an end.
        """
        with torch.no_grad(), _first_decides(self.model.language_model.norm, self._team):
            result = self._work(work)
        self._fsdp.reshard()
        return result

    def _work(self, work: Callable[[], _T]) -> _T:
        # FSDP keeps the tensors that weights come together in: they must not be made in inference mode.
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.unshard()
                module.reshard()
        return work()

    @property
    def _fsdp(self) -> FSDPModule:
        assert isinstance(self, FSDPModule), "`shard` makes it one"
        return self


@contextmanager
def _first_decides(module: nn.Module, team: Team) -> Iterator[None]:
    """Whatever `module` gives is what it gives in the first process."""

    def agree(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        agreed = output.contiguous()
        if team.group is not None:
            dist.broadcast(agreed, group=team.group, group_src=0)
        return agreed

    handle = module.register_forward_hook(agree)
    try:
        yield
    finally:
        handle.remove()


class _Part(torch.autograd.Function):
    """The value of a whole with the gradient of a part of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, whole: Tensor) -> Tensor:
        return whole.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def shard(
    model: PaliGemma2Model,
    objective: Callable[[Batch], Tensor],
    weigh: Callable[[Batch], float],
    mesh: DeviceMesh,
    *,
    compute_dtype: torch.dtype = torch.float32,
) -> SharedObjective[Batch]:
    """Leave each process its rows of the weights, block by block, and give what a `Trainer` minimises.

    Weights that are trained, their gradients and optimiser states are float32, and so are the sums of
    gradients. Weights that are not trained may be bfloat16.

    Args:
        model: the same in all processes, or on the meta device, to be filled by `fill_shards`. Adapters are
            attached and what is frozen is frozen before.
        objective: the mean loss of a batch of this model, a scalar with gradient.
        weigh: what the mean of a batch counts: its examples, or its tokens.
        mesh: of one dimension.
        compute_dtype: of the weights as they come together: bfloat16 where the device is fast with it.

    Raises:
        ConfigError: the objective keeps encoded pictures: processes would no longer encode at the same time.
    """
    if isinstance(objective, SuffixObjective) and objective.image_cache is not None:
        raise ConfigError("processes that share a model keep no encoded pictures", hint="leave out the cache")
    policy = MixedPrecisionPolicy(
        param_dtype=None if compute_dtype == torch.float32 else compute_dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # the model converts by itself
    )
    shared = SharedObjective(model, objective, weigh)
    for block in (*model.vision_tower.encoder.layers, *model.language_model.layers):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(shared, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(shared, "_work")
    for module in shared.modules():
        if isinstance(module, FSDPModule):  # gradients are added up, not averaged: losses are weighed
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    shared._team = team_of(model.parameters())
    return shared


def fill_shards(model: PaliGemma2Model, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Give a model that was shared out on the meta device its weights, one after another.

    Args:
        model: after `shard`.
        weights: each whole, on the CPU, by the model's own names or those without adapters; of each, the
            process keeps its rows, on its own device.

    Raises:
        CheckpointError: not every weight is among them.
    """
    first = next(model.parameters())
    assert isinstance(first, DTensor), "not shared out yet"
    model.to_empty(device=first.device_mesh.device_type)
    parameters = dict(model.named_parameters()) | base_parameters(model)
    empty = {id(parameter) for parameter in model.parameters()}
    for name, tensor in weights:
        share, rows = own_rows(parameters[name])
        with torch.no_grad():
            share.copy_(tensor[rows.start : rows.stop])
        empty.discard(id(parameters[name]))
    if empty:
        name = next(name for name, parameter in parameters.items() if id(parameter) in empty)
        raise CheckpointError(f"{len(empty)} weights have no values ({name}, …)", hint="give all of them")


def save_shared_model(folder: Path, model: nn.Module, config: ModelConfig, **options: Any) -> None:
    """`save_model` of a model that is shared out: the first process writes, one weight at a time is whole.

    Args:
        folder: the new folder, of the first process.
        model: after `shard`; all processes call this.
        config: the model's configuration.
        options: further arguments of `save_model`.

    Raises:
        InputError: the folder exists, or the dtype cannot be stored.
        WorkError: the disk is full.
    """
    team, parameters = team_of(model.parameters()), base_parameters(model).values()

    def gather(parameter: Tensor) -> Tensor:
        team.largest(1)  # the others wait for this, so that an error of this process does not leave them
        return whole(parameter)

    def write() -> None:
        try:
            save_model(folder, model, config, gather=gather, **options)
        finally:
            team.largest(0)

    def follow() -> None:
        for parameter in parameters:
            if not team.largest(0):
                return
            whole(parameter)
        team.largest(0)

    team.run(write if team.is_first else follow)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is shared out, brought together in every process; all must call this."""
    with torch.no_grad():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
