import numpy as np
import torch
from torch import nn

from paligemma2.training.average import WeightAverage


def one_weight(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def averaged(decay: float, path: list[float]) -> float:
    module = one_weight(path[0])
    average = WeightAverage(module, decay)
    for step, value in enumerate(path[1:]):
        nn.init.constant_(module.weight, value)  # type: ignore[arg-type]
        average.update(module, step)
    return average.weights["weight"].item()


def closed_form(decay: float, path: list[float]) -> float:
    """The sum of all weights of the path, each times its share and all later decays."""
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(len(path) - 1)]
    shares = [1.0] + [1 - d for d in decays]
    return float(
        sum(w * share * np.prod(decays[i:]) for i, (w, share) in enumerate(zip(path, shares, strict=True)))
    )


def test_the_average_is_the_closed_form() -> None:
    path = np.random.default_rng(0).normal(size=40).tolist()
    for decay in (0.0, 0.5, 0.995):
        assert abs(averaged(decay, path) - closed_form(decay, path)) < 1e-6


def test_the_start_is_forgotten_quickly() -> None:
    """With the decay at its limit from the first update on, 0.995 ** 20 of the start would be left."""
    assert averaged(0.995, [1.0] + [0.0] * 20) < 1e-3


def test_a_weight_at_rest_stays_its_own_average() -> None:
    assert abs(averaged(0.9, [2.5] * 30) - 2.5) < 1e-6


def test_weights_that_are_not_trained_are_not_kept() -> None:
    module = nn.Linear(3, 2)
    module.weight.requires_grad_(False)
    average = WeightAverage(module, 0.5)
    assert average.weights.keys() == {"bias"}
    before = module.weight.clone()
    average.update(module, 100)
    average.copy_to(module)
    assert torch.equal(module.weight, before)


def test_following_the_weights_does_not_change_them_and_copying_does() -> None:
    module = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    average = WeightAverage(module, 0.5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    average.update(module, 100)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name] + 1.0)
    average.copy_to(module)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] + 0.5)
        assert parameter.requires_grad
