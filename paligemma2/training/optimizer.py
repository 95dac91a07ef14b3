"""AdamW for everything, and Muon for the matrices of small models trained from nothing."""

from collections.abc import Callable, Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

OptimizerName = Literal["adamw", "muon"]

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
        params: 2-D parameters.
        lr: learning rate; scaled by `sqrt(max(1, rows / columns))`.
        momentum: of the Nesterov momentum.
        weight_decay: multiplied by the learning rate.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
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


def build_optimizers(
    model: nn.Module,
    name: OptimizerName,
    *,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
) -> list[Optimizer]:
    """The optimisers of a run; together they cover every trainable parameter once.

    Norms, biases and one-dimensional parameters are not decayed. With "muon", matrices inside blocks go to
    Muon, while embeddings and all else stay with AdamW (b1 0.9, b2 0.999, as big_vision's Adam).

    Args:
        model: parameters with `requires_grad`.
        name: "adamw" or "muon".
        learning_rate: of AdamW.
        muon_learning_rate: of Muon, used with "muon" only.
        weight_decay: decoupled, of both.
    """
    matrices, decayed, plain = [], [], []
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name == "muon" and parameter.dim() == 2 and ".layers." in parameter_name:
            matrices.append(parameter)
        elif parameter.dim() >= 2:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: list[Optimizer] = [AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)]
    if matrices:
        optimizers.append(Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay))
    return optimizers
