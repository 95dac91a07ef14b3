import dataclasses

import pytest
import torch
from torch import nn

from paligemma2.model.config import preset
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_fresh_adapter
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.plan import STATE_BYTES, StepSize, TrainingMemory, Way, training_memory

SIZE = StepSize(rows=4, tokens=304, images=4, targets=128)
WAY = Way(device="cpu")


def meta_model(name: str = "paligemma2-3b-pt-224", dtype: torch.dtype = torch.float32) -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(preset(name)).to(dtype)


@pytest.fixture(scope="module")
def model() -> PaliGemma2Model:
    return meta_model()


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_weights_and_states_are_counted_from_the_model(model: PaliGemma2Model) -> None:
    plan = training_memory(model, SIZE, WAY)
    assert plan.weights == 4 * count(model)
    assert plan.optimizer == 8 * count(model)
    assert 0.5 * 4 * count(model) < plan.gradients <= 4 * count(model)
    with_average = training_memory(model, SIZE, dataclasses.replace(WAY, has_average=True))
    assert with_average.weights == 8 * count(model)
    few_bits = training_memory(model, SIZE, dataclasses.replace(WAY, optimizer="adamw_8bit"))
    assert few_bits.optimizer == STATE_BYTES["adamw_8bit"] * count(model) < plan.optimizer / 3


def test_an_adapter_needs_little_beside_the_weights() -> None:
    model = meta_model(dtype=torch.bfloat16)
    weights = 2 * count(model)
    add_fresh_adapter(model, LoraSettings(rank=16))
    plan = training_memory(model, SIZE, WAY)
    assert plan.weights == pytest.approx(weights, rel=0.02)
    assert plan.gradients + plan.optimizer < 0.1 * weights
    assert plan.gathered < 0.02 * weights


def test_a_frozen_image_encoder_keeps_nothing(model: PaliGemma2Model) -> None:
    large = dataclasses.replace(SIZE, rows=64, images=64)
    whole = training_memory(model, large, WAY)
    frozen = meta_model()
    frozen.vision_tower.requires_grad_(False)
    plan = training_memory(frozen, large, WAY)
    assert plan.activations < whole.activations
    assert plan.optimizer == whole.optimizer - 8 * count(frozen.vision_tower)


def test_recomputation_keeps_less_and_selective_is_between(model: PaliGemma2Model) -> None:
    large = dataclasses.replace(SIZE, rows=64, images=64, targets=2048)
    none, selective, full = (
        training_memory(model, large, dataclasses.replace(WAY, recomputation=each)).activations
        for each in ("none", "selective", "full")
    )
    assert none > 1.2 * selective > 2 * full


def test_activations_grow_with_the_rows_and_the_loss_does_not(model: PaliGemma2Model) -> None:
    sizes = [StepSize(rows=n, tokens=304, images=n, targets=32 * n) for n in (64, 128)]
    small, large = (training_memory(model, size, WAY) for size in sizes)
    assert large.activations == pytest.approx(2 * small.activations, rel=0.1)
    assert large.loss < 1e9


def test_processes_share_what_lasts_and_bring_weights_together(model: PaliGemma2Model) -> None:
    way = dataclasses.replace(WAY, device="cuda", processes=8)
    alone, shared = (training_memory(model, SIZE, each) for each in (WAY, way))
    assert shared.weights == alone.weights / 8
    assert shared.optimizer == alone.optimizer / 8
    rows = model.config.text.vocab_size * model.config.text.hidden_size
    assert shared.gathered > 2 * rows
    assert shared.total < alone.total / 3


def test_the_total_is_the_sum_of_the_parts() -> None:
    plan = TrainingMemory(
        moment="update", weights=1, gradients=2, optimizer=4, gathered=8, activations=16, loss=32
    )
    assert plan.total == 63
