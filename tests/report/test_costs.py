import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig, preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.report.costs import (
    DEVICES,
    Shape,
    evaluation_cost,
    meta_model,
    read_flops,
    training_cost,
    write_flops,
)

H100 = DEVICES["h100"]
SHAPE = Shape(pictures=1, text_tokens=32, answer_tokens=32)
SMALL = ModelConfig(
    vision=VisionConfig(image_size=56, hidden_size=32, num_layers=3, num_heads=2, intermediate_size=96),
    text=TextConfig(
        vocab_size=300,
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=12,
        intermediate_size=80,
        query_pre_attn_scalar=12.0,
        max_positions=256,
    ),
    image_token_id=290,
)


@pytest.fixture(scope="module")
def large() -> PaliGemma2Model:
    return meta_model(preset("paligemma2-3b-pt-224"), is_image_frozen=False)


@pytest.fixture(scope="module")
def small() -> PaliGemma2Model:
    model = PaliGemma2Model(SMALL)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.05, generator=generator)
    return model


def prompt(pictures: int, text: int) -> tuple[torch.Tensor, torch.Tensor, PrefixLayout]:
    ids = torch.full((1, pictures * SMALL.num_image_tokens + text), 5)
    ids[:, : pictures * SMALL.num_image_tokens] = SMALL.image_token_id
    everything = torch.ones_like(ids, dtype=torch.bool)
    return ids, torch.zeros(pictures, 3, 56, 56), PrefixLayout.from_flags(everything, everything)


@pytest.mark.parametrize(("pictures", "text"), [(1, 7), (2, 30)])
def test_reading_a_prompt_takes_what_pytorch_counts(small: PaliGemma2Model, pictures: int, text: int) -> None:
    ids, pixels, layout = prompt(pictures, text)
    plain = sdpa_kernel(SDPBackend.MATH)  # the counter does not know the fused attention of CPUs
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        small.prefill(ids, small.encode_images(pixels), layout, 4)
    assert read_flops(small, pictures, ids.shape[1]) == pytest.approx(counter.get_total_flops(), rel=0.002)


def test_writing_a_token_takes_what_pytorch_counts(small: PaliGemma2Model) -> None:
    ids, pixels, layout = prompt(1, 9)
    with torch.no_grad():
        _, cache = small.prefill(ids, small.encode_images(pixels), layout, 1)
        with FlopCounterMode(display=False) as counter:
            small.step(torch.tensor([7]), cache)
    assert write_flops(small, ids.shape[1] + 1) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_training_costs_three_times_a_reading(large: PaliGemma2Model) -> None:
    cost = training_cost(large, SHAPE, 1, H100)
    forward = read_flops(large, 1, 288) + 31 * 2 * 257_216 * 2304
    assert cost.flops == pytest.approx(3 * forward, rel=0.02)
    frozen = meta_model(preset("paligemma2-3b-pt-224"), is_image_frozen=True)
    assert training_cost(frozen, SHAPE, 1, H100).flops < 0.95 * cost.flops


def test_hours_are_operations_over_the_share_of_the_peak(large: PaliGemma2Model) -> None:
    cost = training_cost(large, SHAPE, 1e6, H100, utilisation=0.5)
    assert cost.gpu_hours == pytest.approx(cost.flops / (0.5 * 989e12) / 3600)
    assert training_cost(large, SHAPE, 2e6, H100, utilisation=0.25).gpu_hours == 4 * cost.gpu_hours


def test_known_figures_of_the_3b_model_come_out(large: PaliGemma2Model) -> None:
    per_example = training_cost(large, dataclasses.replace(SHAPE, text_tokens=64), 1, H100).flops
    assert per_example == pytest.approx(4.7e12, rel=0.05)
    assert write_flops(large, 0) == pytest.approx(2 * 2.6e9, rel=0.02)


def test_states_in_float32_decide_how_many_gpus_are_needed(large: PaliGemma2Model) -> None:
    small_one = training_cost(large, SHAPE, 1, H100)
    assert small_one.devices == 1
    assert 48e9 < small_one.memory.total < 72e9
    model = meta_model(preset("paligemma2-10b-pt-224"), is_image_frozen=False)
    devices = training_cost(model, SHAPE, 1, H100).devices
    assert devices in (4, 8)
    none = dataclasses.replace(H100, memory=1e6)
    assert training_cost(large, SHAPE, 1, none).devices is None


def test_writing_is_bound_by_memory_and_long_answers_cost_more(large: PaliGemma2Model) -> None:
    short = evaluation_cost(large, dataclasses.replace(SHAPE, answer_tokens=1), 1, H100)
    assert short.flops == read_flops(large, 1, 288)
    assert short.gpu_hours == pytest.approx(short.flops / (0.4 * 989e12) / 3600)
    long = evaluation_cost(large, dataclasses.replace(SHAPE, answer_tokens=101), 1, H100)
    least = 100 * 5.2e9 / 64 / 3.35e12 / 0.4 / 3600
    assert least < long.gpu_hours - short.gpu_hours < 2.5 * least


def test_beams_cost_rows_and_what_does_not_fit_is_said(large: PaliGemma2Model) -> None:
    one, three = (evaluation_cost(large, dataclasses.replace(SHAPE, beams=n), 1, H100) for n in (1, 3))
    assert one.flops < three.flops < 3 * one.flops
    assert one.batch == 64
    assert evaluation_cost(large, SHAPE, 1, dataclasses.replace(H100, memory=1e6)).batch is None
    little = evaluation_cost(large, SHAPE, 1, dataclasses.replace(H100, memory=8e9))
    assert little.batch is not None
    assert little.batch < 64
    assert little.memory < 7.2e9


def test_frames_of_a_video_are_pictures(large: PaliGemma2Model) -> None:
    video = dataclasses.replace(SHAPE, pictures=16)
    one, sixteen = (training_cost(large, shape, 1, H100).flops for shape in (SHAPE, video))
    assert 13 < sixteen / one < 18
