import dataclasses

import pytest
import torch

from paligemma2.model.config import preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.plan import StepSize
from paligemma2.training.throughput import Hardware, communication_bytes, step_flops, throughput

SIZE = StepSize(rows=2, tokens=300, images=2, targets=64)
HARDWARE = Hardware(flops=1e15, link_bytes=1e11)


@pytest.fixture
def model() -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(preset("paligemma2-3b-pt-224"))


def matrices(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters() if each.dim() >= 2)


def test_a_weight_costs_six_operations_for_each_token(model: PaliGemma2Model) -> None:
    longer = step_flops(model, dataclasses.replace(SIZE, rows=4)) - step_flops(model, SIZE)
    attention = 2 * 12 * 300 * 300 * 8 * 256 * 26
    assert longer == pytest.approx(6 * 600 * matrices(model.language_model.layers) + attention)
    more = step_flops(model, dataclasses.replace(SIZE, targets=65)) - step_flops(model, SIZE)
    assert more == 6 * 257_216 * 2304


def test_a_whole_step_is_near_the_rule_of_thumb(model: PaliGemma2Model) -> None:
    rule = 6 * 600 * matrices(model.language_model.layers) + 6 * 512 * matrices(model.vision_tower.encoder)
    assert step_flops(model, SIZE) == pytest.approx(rule, rel=0.1)


def test_a_frozen_image_encoder_only_goes_forward(model: PaliGemma2Model) -> None:
    whole = step_flops(model, SIZE)
    model.vision_tower.requires_grad_(False)
    saved = whole - step_flops(model, SIZE)
    attention = 8 * 512 * 256 * 1152 * 27
    assert saved == pytest.approx(4 * 512 * matrices(model.vision_tower) + attention, rel=0.01)


def test_weights_are_sent_twice_and_gradients_of_what_is_trained_once(model: PaliGemma2Model) -> None:
    total = sum(each.numel() for each in model.parameters())
    assert communication_bytes(model, 1, torch.bfloat16) == 0
    sent = communication_bytes(model, 4, torch.bfloat16)
    table = model.language_model.embed_tokens.weight.numel()
    assert sent == pytest.approx(0.75 * (8 * total - 2 * table), rel=0.01)
    model.requires_grad_(False)
    assert sent - communication_bytes(model, 4, torch.bfloat16) == 3 * total


def test_the_longer_of_products_and_messages_decides(model: PaliGemma2Model) -> None:
    fast = throughput(model, SIZE, 4, HARDWARE, utilisation=0.5)
    assert fast.compute_seconds == step_flops(model, SIZE) / 5e14
    assert fast.step_seconds == fast.communication_seconds > fast.compute_seconds
    assert fast.examples_per_second == 8 / fast.step_seconds
    assert fast.tokens_per_second == 2400 / fast.step_seconds
    slow = throughput(model, SIZE, 4, HARDWARE, utilisation=0.01, parts=2)
    assert slow.step_seconds == slow.compute_seconds > slow.communication_seconds
    assert slow.examples_per_second == 16 / slow.step_seconds
