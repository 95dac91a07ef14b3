"""AdamW for everything, and Muon for the matrices of small models trained from nothing."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from paligemma2.optional import require
from paligemma2.training.parts import belongs_to, check_parts
from paligemma2.training.recipe import Recipe

# Quintic Newton-Schulz coefficients of Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon/).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Roughly the nearest matrices with orthonormal rows or columns, by Newton-Schulz iteration.

    Args:
        matrices: float32 [count, rows, columns].

    Returns:
        The same shape; singular values lie around 1 (0.7 to 1.2).
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if is_tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if is_tall else x


class Muon(Optimizer):
    """Momentum whose update of each matrix is orthogonalised (Muon), with decoupled weight decay.

    `torch.optim.Muon` does the same one matrix at a time in bfloat16, which a CPU without bfloat16
    arithmetic emulates; this one works in float32 and stacks matrices of equal shape.

    Args:
        params: 2-D parameters, or groups of them.
        lr: learning rate; scaled by `sqrt(max(1, rows / columns))`.
        momentum: of the Nesterov momentum.
        weight_decay: multiplied by the learning rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(self, parameters: list[nn.Parameter], lr: float, momentum: float, decay: float) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            grad = parameter.grad
            assert grad is not None
            state["momentum"].lerp_(grad, 1 - momentum)
            directions.append(grad.lerp(state["momentum"], momentum))
        rows, columns = parameters[0].shape
        updates = orthogonalize(torch.stack(directions))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * decay)
            parameter.add_(update, alpha=-lr * max(1.0, rows / columns) ** 0.5)


def build_optimizers(model: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """The optimisers of a run; together they cover every trainable parameter once.

    With "muon", matrices inside blocks go to Muon, while embeddings and all else stay with AdamW (b1 0.9,
    b2 0.999, epsilon 1e-8, as big_vision's Adam). What is decayed tells `recipe.decay_rule`: with "adamw" all
    but norms, biases and other one-dimensional parameters.

    Args:
        model: parameters with `requires_grad`.
        recipe: rates, factors and decay.

    Raises:
        ConfigError: a learning rate factor is for a part that holds nothing.
        MissingExtra: states of 8 bits are wanted, and torchao is not installed.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    check_parts(recipe.learning_rate_factors, named)
    matrices: dict[tuple[float, float], list[nn.Parameter]] = {}
    others: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        is_muons = recipe.optimizer == "muon" and parameter.dim() == 2 and ".layers." in name
        peak = recipe.muon_learning_rate if is_muons else recipe.learning_rate
        rate = peak * _factor(name, recipe)
        key = rate, _decay(name, parameter, rate, recipe)
        (matrices if is_muons else others).setdefault(key, []).append(parameter)
    optimizers: list[Optimizer] = []
    if others:
        if recipe.optimizer == "adamw_8bit":
            adamw = require("torchao.optim", extra="quant").AdamW8bit
        else:  # in one pass over the numbers, without a copy of the gradients on the way
            adamw = partial(AdamW, fused=all(p.device.type in ("cpu", "cuda") for p in named.values()))
        optimizers.append(adamw(_groups(others), lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8))
    if matrices:
        optimizers.append(Muon(_groups(matrices), lr=recipe.muon_learning_rate))
    return optimizers


def _factor(name: str, recipe: Recipe) -> float:
    factors = recipe.learning_rate_factors
    return next((factor for part, factor in factors.items() if belongs_to(name, part)), 1.0)


def _decay(name: str, parameter: nn.Parameter, rate: float, recipe: Recipe) -> float:
    """What the optimiser multiplies by its learning rate before it is taken from the weights."""
    if recipe.decay_rule == "adamw":
        return recipe.weight_decay if parameter.dim() >= 2 else 0.0
    # big_vision decays what its checkpoints call `kernel`, which are no parameters of the decoder, and adds
    # the decay after the learning rate, which is divided out here.
    is_kernel = belongs_to(name, "image") and name.endswith(".weight") and parameter.dim() >= 2
    is_positions = name.endswith("position_embedding.weight")
    return recipe.weight_decay / rate if is_kernel and not is_positions else 0.0


def _groups(parameters: Mapping[tuple[float, float], list[nn.Parameter]]) -> list[dict[str, Any]]:
    return [
        {"params": members, "lr": rate, "weight_decay": decay}
        for (rate, decay), members in parameters.items()
    ]
