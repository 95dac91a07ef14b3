import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import WorkError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.training.loss import suffix_loss
from paligemma2.training.recipe import Recipe
from paligemma2.training.update import Counters, Update, gradient_norm

Arrays = dict[str, NDArray[np.float64]]


def set_gradients(module: nn.Module, gradients: dict[str, torch.Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name].clone()


def linear_with_gradient(norm: float) -> nn.Linear:
    module = nn.Linear(3, 2)
    set_gradients(module, {name: torch.ones_like(p) for name, p in module.named_parameters()})
    scale = norm / gradient_norm(list(module.parameters()))
    for parameter in module.parameters():
        assert parameter.grad is not None
        parameter.grad *= scale
    return module


# The reference, from a golden state.


def golden(folder: Path) -> PaliGemma2Model:
    config = read_config(folder / "softcap")
    return load_model(folder, config=config).model.requires_grad_(True)


def golden_gradients(model: PaliGemma2Model, folder: Path) -> dict[str, torch.Tensor]:
    inputs = {name: torch.from_numpy(array) for name, array in np.load(folder / "inputs.npz").items()}
    is_valid = inputs["train_attention_mask"].bool()
    is_suffix = inputs["train_token_type_ids"].bool() & is_valid
    layout = PrefixLayout.from_flags(is_valid, is_valid & ~is_suffix)
    logits = model(inputs["train_ids"], inputs["pixel_values"], layout)
    loss = suffix_loss(logits[:, :-1], inputs["train_ids"][:, 1:], is_suffix[:, 1:].float())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return dict(zip(dict(model.named_parameters()), gradients, strict=True))


def is_kernel(name: str) -> bool:
    """What big_vision's checkpoints call `kernel`: the encoder's matrices and patches, and the projector."""
    is_image = name.startswith(("vision_tower", "multi_modal_projector"))
    return is_image and name.endswith(".weight") and "norm" not in name and "position" not in name


def reference_update(
    weights: Arrays, gradients: Arrays, first: Arrays, second: Arrays, step: int, *, lr: float, wd: float
) -> None:
    """One step as big_vision chains it: clip, Adam, times lr, plus wd × kernel, times the schedule, minus."""
    total = 40
    warmup = round(0.05 * total)
    progress = min(max((step - warmup) / (total - warmup), 0.0), 1.0)
    schedule = 0.5 * (1 + np.cos(np.pi * progress)) * min(1.0, step / warmup)
    norm = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
    for name, weight in weights.items():
        gradient = gradients[name] * min(1.0, 1.0 / norm)
        first[name] = 0.9 * first[name] + 0.1 * gradient
        second[name] = 0.999 * second[name] + 0.001 * gradient**2
        unbiased = first[name] / (1 - 0.9 ** (step + 1))
        update = unbiased / (np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-8)
        decay = wd * weight if is_kernel(name) else 0.0
        weights[name] = weight - schedule * (lr * update + decay)


def as_arrays(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.detach().double().numpy().copy() for name, tensor in tensors.items()}


def test_updates_from_a_golden_state_are_those_of_big_vision(golden_model: Path) -> None:
    """Four updates, two of them in the warm-up, with gradients that are clipped and ones that are not."""
    model = golden(golden_model)
    recipe = Recipe(
        steps=40, learning_rate=3e-3, weight_decay=2e-3, decay_rule="big_vision", warmup_fraction=0.05
    )
    update = Update(model, recipe)
    weights = as_arrays(dict(model.named_parameters()))
    first, second = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    norms = []
    for step in range(4):
        gradients = golden_gradients(model, golden_model)
        if step == 3:
            gradients = {name: 1e-3 * gradient for name, gradient in gradients.items()}
        set_gradients(model, gradients)
        norms.append(update.apply(step, 1.0)[0])
        reference_update(weights, as_arrays(gradients), first, second, step, lr=3e-3, wd=2e-3)
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(
                parameter.detach().numpy(), weights[name], rtol=2e-6, atol=2e-7, err_msg=name
            )
    assert min(norms[:3]) > 1
    assert norms[3] < 1


def test_only_kernels_of_the_image_part_are_decayed_as_in_big_vision(golden_model: Path) -> None:
    model = golden(golden_model)
    update = Update(model, Recipe(steps=40, weight_decay=0.1, decay_rule="big_vision"))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {
        names[id(p)]
        for group in update.optimizers[0].param_groups
        for p in group["params"]
        if group["weight_decay"] > 0
    }
    assert decayed == {name for name in names.values() if is_kernel(name)}
    assert len(decayed) > 10


# Rates of parts.


def test_a_part_with_a_factor_moves_by_it() -> None:
    module = nn.ModuleDict({"slow": nn.Linear(3, 2), "fast": nn.Linear(3, 2)})
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    recipe = Recipe(
        steps=10, learning_rate=0.1, warmup_fraction=0.0, learning_rate_factors={r"slow\..*": 0.01}
    )
    update = Update(module, recipe)
    set_gradients(module, {name: torch.full_like(p, 0.1) for name, p in module.named_parameters()})
    update.apply(0, 1.0)
    for name, parameter in module.named_parameters():
        moved = (before[name] - parameter).detach()
        expected = 0.1 * (0.01 if name.startswith("slow") else 1.0)
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-4, atol=1e-6)


def test_whoever_keeps_what_weights_gave_sees_that_they_changed() -> None:
    module = linear_with_gradient(1.0)
    before = [p._version for p in module.parameters()]
    Update(module, Recipe(steps=3, warmup_fraction=0.0)).apply(0, 1.0)
    assert all(p._version > version for p, version in zip(module.parameters(), before, strict=True))


# What is left out.

PLAIN = Recipe(steps=1000, learning_rate=0.1, warmup_fraction=0.0)


def test_a_gradient_longer_than_the_clip_is_cut_exactly_to_it() -> None:
    module = linear_with_gradient(50.0)
    norm, is_applied = Update(module, PLAIN).apply(0, 1.0)
    assert (norm, is_applied) == (pytest.approx(50.0), True)
    assert gradient_norm(list(module.parameters())) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_a_number_changes_nothing_and_is_counted(loss: float) -> None:
    module = linear_with_gradient(1.0)
    before = module.weight.detach().clone()
    update = Update(module, PLAIN)
    assert update.apply(0, loss)[1] is False
    assert torch.equal(module.weight, before)
    assert not update.optimizers[0].state
    assert (update.counters.not_finite, update.counters.skipped, update.counters.spikes) == (1, 1, 0)


def after_quiet_updates(recipe: Recipe) -> tuple[nn.Linear, Update]:
    module = linear_with_gradient(0.5)
    update = Update(module, recipe)
    for step in range(30):
        assert update.apply(step, 1.0) == (pytest.approx(0.5), True)
    for parameter in module.parameters():
        assert parameter.grad is not None
        parameter.grad *= 11
    return module, update


def test_a_spike_is_counted_and_clipped() -> None:
    module, update = after_quiet_updates(PLAIN)
    before = module.weight.detach().clone()
    assert update.apply(30, 1.0)[1] is True
    assert (update.counters.spikes, update.counters.skipped) == (1, 0)
    assert not torch.equal(module.weight, before)


def test_a_spike_is_left_out_where_that_is_wanted() -> None:
    module, update = after_quiet_updates(dataclasses.replace(PLAIN, skip_spikes=True, max_skipped=2))
    before = module.weight.detach().clone()
    assert update.apply(30, 1.0)[1] is False
    assert torch.equal(module.weight, before)
    assert (update.counters.spikes, update.counters.skipped) == (1, 1)
    with pytest.raises(
        WorkError, match=r"the norm of the gradient is 5\.5, its median was 0\.5 at step 31; 2 updates"
    ):
        update.apply(31, 1.0)


def test_early_gradients_are_never_spikes() -> None:
    module = linear_with_gradient(0.01)
    update = Update(module, PLAIN)
    update.apply(0, 1.0)
    for parameter in module.parameters():
        assert parameter.grad is not None
        parameter.grad *= 1000
    update.apply(1, 1.0)
    assert update.counters.spikes == 0


def test_counters_pass_through_a_saved_state_unchanged() -> None:
    _, update = after_quiet_updates(PLAIN)
    update.apply(30, math.nan)
    assert Counters.from_values(update.counters.as_values()) == update.counters
