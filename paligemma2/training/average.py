"""An exponential moving average of the weights."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the parameters of a model that are trained, in their dtype.

    Early on the decay is `(1 + step) / (10 + step)`, so that the start is forgotten quickly.

    Args:
        model: whose parameters to follow.
        decay: limit of the decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's present weights, after update number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        for name, weight in self.weights.items():
            weight.lerp_(parameters[name].detach(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the model's weights with the average."""
        parameters = dict(model.named_parameters())
        for name, weight in self.weights.items():
            parameters[name].copy_(weight)
