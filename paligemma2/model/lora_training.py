"""Adapters that are trained: put into a model whose own weights are frozen, and taken out again.

`save_adapter` writes what is taken out. The adapter is part of the model while it is in training: every row
goes through it, in evaluation too, and `using_adapters` does not concern it.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import Adapter, LoraLinear, LowRank, TrainableLora
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.paligemma2 import PaliGemma2Model, linear_shapes
from paligemma2.model.restored_linear import RestoredLinear


def add_fresh_adapter(model: PaliGemma2Model, settings: LoraSettings, *, seed: int = 0) -> None:
    """Put an adapter that changes nothing yet into a model, to be trained; freeze all else.

    A is random as `peft` makes it, B is zero. Both are float32 whatever the model is.

    Args:
        model: loaded with `for_training=True`; its weights may be of few bits.
        settings: which layers are changed, and how.
        seed: of A; the same on every device and in every process.

    Raises:
        ConfigError: a target or pattern fits no layer.
        InputError: the model has adapters already, or its weights are packed for inference.
    """
    add_adapter(model, fresh_adapter(model.config, settings, seed=seed), dropout=settings.dropout)


def fresh_adapter(config: ModelConfig, settings: LoraSettings, *, seed: int = 0) -> Adapter:
    """The adapter of `add_fresh_adapter`, on the CPU.

    Args:
        config: of the model that it is for.
        settings: see `add_fresh_adapter`.
        seed: see `add_fresh_adapter`.

    Raises:
        ConfigError: a target or pattern fits no layer.
    """
    shapes = linear_shapes(config)
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for layer in settings.layers_among(shapes):
        (num_out, num_in), rank = shapes[layer], settings.rank_of(layer)
        a = nn.init.kaiming_uniform_(torch.empty(rank, num_in), a=math.sqrt(5), generator=generator)
        changes[layer] = LowRank(a, torch.zeros(num_out, rank), settings.alpha_of(layer))
    return Adapter(changes=changes, is_rank_stabilized=settings.is_rank_stabilized)


def add_adapter(model: PaliGemma2Model, adapter: Adapter, *, dropout: float = 0.0) -> None:
    """Put an adapter into a model, to be trained further; freeze all else.

    Args:
        model: loaded with `for_training=True`; its weights may be of few bits.
        adapter: its numbers are copied, as float32.
        dropout: see `LoraSettings`.

    Raises:
        InputError: the model has adapters already, or its weights are packed for inference.
    """
    if any(isinstance(module, LoraLinear | TrainableLora) for module in model.modules()):
        raise InputError("the model has an adapter already", hint="load it without `adapter=`, add one once")
    model.requires_grad_(False)
    for layer, change in adapter.changes.items():
        linear = model.get_submodule(layer)
        if not isinstance(linear, nn.Linear | RestoredLinear):
            raise InputError(
                "weights that are packed for inference let no gradient through",
                hint="load the model with for_training=True",
            )
        trainable = TrainableLora(
            linear,
            change,
            is_rank_stabilized=adapter.is_rank_stabilized,
            dropout=dropout,
            device=model.device,
        )
        model.set_submodule(layer, trainable.train(model.training))


def adapter_in(
    model: PaliGemma2Model,
    *,
    base_model: str = "",
    gather: Callable[[Tensor], Tensor] = lambda parameter: parameter,
) -> Adapter:
    """A copy of the adapter that is trained in a model, on the CPU, in float32.

    Args:
        model: after `add_fresh_adapter` or `add_adapter`.
        base_model: what the model is called, for those who load the adapter later.
        gather: brings a parameter together of which this process holds a part.

    Raises:
        InputError: there is none.
    """
    trained = dict(_trained(model))
    if not trained:
        raise InputError("the model has no adapter in training", hint="put one in first")
    stabilized = next(iter(trained.values())).is_rank_stabilized
    changes = {layer: module.change(gather) for layer, module in trained.items()}
    return Adapter(changes=changes, is_rank_stabilized=stabilized, base_model=base_model)


def take_out(model: PaliGemma2Model, *, base_model: str = "") -> Adapter:
    """Take the adapter out of a model, which is then as it was before; its own weights stay frozen.

    Args:
        model: see `adapter_in`.
        base_model: see `adapter_in`.

    Raises:
        InputError: there is none.
    """
    adapter = adapter_in(model, base_model=base_model)
    for layer, module in list(_trained(model)):
        model.set_submodule(layer, module.base)
    return adapter


def _trained(model: nn.Module) -> Iterator[tuple[str, TrainableLora]]:
    for name, module in model.named_modules():
        if isinstance(module, TrainableLora):
            yield name, module
