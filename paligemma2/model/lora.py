"""Adapters of low rank (LoRA, arXiv:2106.09685), chosen row by row.

A layer `y = W x` becomes `y = W x + scale * B A x`. Which adapter a row goes through is said once around the
work, by `using_adapters` or `in_pieces_using`, and every `LoraLinear` inside looks it up; other threads and
other work are not affected. Outside of both the model is the one without adapters.

`attach` puts a `LoraLinear` around a layer: the parameter `q_proj.weight` is then `q_proj.base.weight`, and
the adapters' own are `q_proj.lora_a.0`, `q_proj.lora_b.0`, … in the order in which they were attached.
`base_parameters` gives the model's parameters by their old names.

An adapter that is trained (`lora_training`) is a `TrainableLora` around each layer instead, and has no name.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import Piecewise

_Result = TypeVar("_Result")


class LowRank(NamedTuple):
    """The change of one layer: `a` [rank, in], `b` [out, rank], and `alpha`, which scales it."""

    a: Tensor
    b: Tensor
    alpha: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """Changes of linear layers that belong together.

    Attributes:
        changes: by our name of each layer that is changed, e.g. `language_model.layers.0.self_attn.q_proj`.
        is_rank_stabilized: the scale is `alpha / sqrt(rank)` (arXiv:2312.03732) instead of `alpha / rank`.
        base_model: what the model that it was trained on is called; may be empty.
    """

    changes: Mapping[str, LowRank]
    is_rank_stabilized: bool = False
    base_model: str = ""

    def scale_of(self, layer: str) -> float:
        """The factor before `B A x` in this layer."""
        return _scale(self.changes[layer], self.is_rank_stabilized)

    def weight_change(self, layer: str) -> Tensor:
        """What merging adds to the weight of this layer: float32 [out, in]."""
        change = self.changes[layer]
        return (change.b.float() @ change.a.float()) * self.scale_of(layer)


def _scale(change: LowRank, is_rank_stabilized: bool) -> float:
    rank = change.a.shape[0]
    return change.alpha / (math.sqrt(rank) if is_rank_stabilized else rank)


class _Group(NamedTuple):
    """The rows of a batch that go through one adapter.

    Attributes:
        rows: int64, where they are among `num_rows`; None for all, however many there are.
    """

    adapter: str
    rows: Tensor | None
    num_rows: int


_Groups: TypeAlias = tuple[_Group, ...]
_groups: ContextVar[_Groups] = ContextVar("_groups", default=())


class LoraLinear(nn.Module):
    """A linear layer and its adapters; each row of a batch goes through the one chosen for it, or none.

    Args:
        base: a layer of any kind that takes [..., in] to [..., out], in a tensor of its own.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.ParameterList()
        self.lora_b = nn.ParameterList()
        self._scales: list[float] = []
        self._places: dict[str, int] = {}

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters that change this layer."""
        return tuple(self._places)

    def add(self, adapter: str, a: Tensor, b: Tensor, scale: float) -> None:
        """One more adapter, under a name that the layer does not have yet."""
        assert adapter not in self._places, adapter
        self._places[adapter] = len(self._scales)
        self._scales.append(scale)
        self.lora_a.append(nn.Parameter(a))
        self.lora_b.append(nn.Parameter(b))

    def forward(self, x: Tensor) -> Tensor:
        """[rows, ..., in] to [rows, ..., out]; the products with A and B are in the dtype of `x`."""
        y: Tensor = self.base(x)
        for adapter, rows, num_rows in _groups.get():
            place = self._places.get(adapter)
            if place is None:
                continue
            if rows is None:
                change = self._change(place, x)
                # In training not in place: a product that is kept for the way back must stay what it was.
                y = y + change if torch.is_grad_enabled() else y.add_(change)
            else:
                assert len(x) == num_rows, (len(x), num_rows)
                y.index_add_(0, rows, self._change(place, x[rows]))
        return y

    def _change(self, place: int, x: Tensor) -> Tensor:
        narrow = F.linear(x, self.lora_a[place].to(x.dtype)) * self._scales[place]
        return F.linear(narrow, self.lora_b[place].to(x.dtype))


class TrainableLora(nn.Module):
    """A frozen linear layer and the one adapter that is trained on it, which all rows go through.

    It asks nothing about its surroundings: where activations are computed again, in whatever thread, the
    result is the same, given the same random numbers.

    Args:
        base: as for `LoraLinear`; is not trained.
        change: the adapter in this layer; copied.
        is_rank_stabilized: see `Adapter`.
        dropout: share of the inputs that the change does not see in training.
        device: of the copies, which are float32.
    """

    def __init__(
        self,
        base: nn.Module,
        change: LowRank,
        *,
        is_rank_stabilized: bool,
        dropout: float,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.base = base
        self.lora_a, self.lora_b = (
            nn.Parameter(each.detach().to(device, torch.float32, copy=True)) for each in (change.a, change.b)
        )
        self.alpha = change.alpha
        self.is_rank_stabilized = is_rank_stabilized
        self.dropout = dropout
        self._scale = _scale(change, is_rank_stabilized)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]; the products with A and B are in the dtype of `x`."""
        y: Tensor = self.base(x)
        # In the dtype of `x`, so that backward keeps the input of the layer once and no wider copy of it.
        narrow = F.linear(F.dropout(x, self.dropout, self.training), self.lora_a.to(x.dtype))
        return y + F.linear(narrow * self._scale, self.lora_b.to(x.dtype))

    def change(self, gather: Callable[[Tensor], Tensor] = lambda parameter: parameter) -> LowRank:
        """A copy of the adapter in this layer, on the CPU; `gather` brings each of its two parts together."""
        a, b = (gather(each.detach()).to("cpu", copy=True) for each in (self.lora_a, self.lora_b))
        return LowRank(a, b, self.alpha)


def attach(model: PaliGemma2Model, adapters: Mapping[str, Adapter]) -> None:
    """Put adapters into a model, whose weights are final: loaded, packed, on their device.

    Args:
        model: its linear layers may be of any kind.
        adapters: by the names that rows will choose them by; copied to the model's device and dtype.
    """
    for name, adapter in adapters.items():
        for layer, change in adapter.changes.items():
            a, b = (each.to(model.device, model.dtype, copy=True) for each in (change.a, change.b))
            _lora_linear(model, layer).add(name, a, b, adapter.scale_of(layer))


def _lora_linear(model: nn.Module, layer: str) -> LoraLinear:
    """The `LoraLinear` of this name, which is put there if need be."""
    linear = model.get_submodule(layer)
    if isinstance(linear, LoraLinear):
        return linear
    parent, _, name = layer.rpartition(".")
    wrapped = LoraLinear(linear)
    setattr(model.get_submodule(parent), name, wrapped)
    return wrapped


def adapter_names(*modules: nn.Module) -> tuple[str, ...]:
    """The names of the adapters that change something in these modules, sorted."""
    layers = (layer for module in modules for layer in module.modules() if isinstance(layer, LoraLinear))
    return tuple(sorted({name for layer in layers for name in layer.adapters}))


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model without its adapters, by the names that they had before these were put in."""
    wrapped = {
        name for name, module in model.named_modules() if isinstance(module, LoraLinear | TrainableLora)
    }
    parameters: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        layer, is_base, rest = name.rpartition(".base.")
        if is_base and layer in wrapped:
            parameters[f"{layer}.{rest}"] = parameter
        elif name.rpartition(".lora_")[0] not in wrapped:
            parameters[name] = parameter
    return parameters


def using_adapters(adapters: Sequence[str | None], device: torch.device) -> AbstractContextManager[None]:
    """Within the block, row `i` of whatever the model is given goes through the adapter `adapters[i]`.

    Rows are prompts for the decoder and pictures for the image encoder. If all name the same adapter, or
    none, their number does not matter.

    Args:
        adapters: a name for each row, or None; a name that no layer knows changes nothing.
        device: of the model.
    """
    return _using(_grouped(adapters, device))


def in_pieces_using(
    adapters: Sequence[str | None], device: torch.device, work: Piecewise[_Result]
) -> Piecewise[_Result]:
    """`work`, each piece of which is done within `using_adapters`; what is done in between is not."""
    groups = _grouped(adapters, device)
    while True:
        with _using(groups):
            try:
                next(work)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
        yield


@contextmanager
def _using(groups: _Groups) -> Iterator[None]:
    token = _groups.set(groups)
    try:
        yield
    finally:
        _groups.reset(token)


def _grouped(adapters: Sequence[str | None], device: torch.device) -> _Groups:
    names = dict.fromkeys(adapters)
    if len(names) == 1:
        return tuple(_Group(name, None, len(adapters)) for name in names if name is not None)
    places = {name: [row for row, each in enumerate(adapters) if each == name] for name in names}
    return tuple(
        _Group(name, torch.tensor(rows, device=device), len(adapters))
        for name, rows in places.items()
        if name is not None
    )
