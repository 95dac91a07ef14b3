import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paligemma2.model.low_bit import (
    GROUP,
    Bits,
    pair_up,
    quantize,
    restore,
    round_activations,
    take_apart,
)

SCALE_ROUNDING = 2.0**-8
"""Relative, of a bfloat16."""


def random_weight(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def per_weight(scales: Tensor, columns: int) -> Tensor:
    return scales.float().repeat_interleave(GROUP, dim=1)[:, :columns]


@pytest.mark.parametrize("columns", [1, 5, 128, 130, 300])
def test_weights_of_8_bits_are_half_a_step_off_at_most(columns: int) -> None:
    weight = random_weight(9, columns)
    low = quantize(weight, 8)
    assert low.numbers.dtype == torch.int8
    assert low.scales.dtype == torch.bfloat16
    assert low.scales.shape == (9, 1)
    assert int(low.numbers.abs().max()) <= 127
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((restore(low) - weight).abs() <= step * (0.5 + SCALE_ROUNDING)).all())


@pytest.mark.parametrize("columns", [1, 5, 128, 130, 300])
def test_weights_of_4_bits_are_half_a_step_off_at_most_but_at_the_end_with_seven_steps(columns: int) -> None:
    weight = random_weight(40, columns)
    low = quantize(weight, 4)
    assert low.scales.shape == (40, -(-columns // GROUP))
    steps = weight / per_weight(low.scales, columns)
    error = (restore(low) / per_weight(low.scales, columns) - steps).abs()
    inside = (steps > -8) & (steps < 7.5)
    assert float(error[inside].max()) <= 0.5 + 1e-5
    assert float(error[~inside].max()) <= 1 + 8 * SCALE_ROUNDING  # 8 becomes 7


def test_all_16_numbers_of_4_bits_are_used_and_the_largest_weight_is_kept() -> None:
    weight = torch.linspace(-1.0, 0.9, 2 * GROUP).view(1, -1)
    weight = torch.cat((weight[:, ::2], weight[:, 1::2]), dim=1)  # both groups span all of it
    for signed in (weight, -weight):
        low = quantize(signed, 4)
        for group in low.numbers.split(GROUP, dim=1):
            assert sorted(set(group[0].tolist())) == list(range(-8, 8))
        assert float(restore(low)[0, 0]) == float(signed[0, 0])


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_group_of_one_sign_keeps_it(sign: int) -> None:
    weight = sign * (random_weight(3, GROUP).abs() + 0.1)
    low = quantize(weight, 4)
    assert bool((restore(low) * sign >= 0).all())
    assert set(low.numbers.unique().tolist()) == set(range(-8, 1))  # the sign is in the scale


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_zeros_stay_zeros(bits: Bits) -> None:
    weight = random_weight(3, 130)
    weight[1] = 0
    restored = restore(quantize(weight, bits))
    assert bool(restored.isfinite().all())
    assert int(restored[1].count_nonzero()) == 0


@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_that_is_not_a_number_is_not_lost(bits: Bits) -> None:
    weight = random_weight(3, 130)
    weight[1, 2] = float("nan")
    assert bool(restore(quantize(weight, bits))[1, 2].isnan())


@pytest.mark.parametrize("bits", [4, 8])
def test_many_rows_are_rounded_as_one_by_one(bits: Bits) -> None:
    weight = random_weight(5, 2**20).bfloat16()  # two at a time
    whole = quantize(weight, bits)
    for row in range(5):
        alone = quantize(weight[row : row + 1], bits)
        assert torch.equal(whole.numbers[row], alone.numbers[0])
        assert torch.equal(whole.scales[row], alone.scales[0])


@pytest.mark.parametrize("bits", [4, 8])
def test_bfloat16_weights_are_the_exact_ones_rounded_once(bits: Bits) -> None:
    low = quantize(random_weight(7, 200), bits)
    torch.testing.assert_close(restore(low, torch.bfloat16), restore(low).bfloat16(), rtol=0, atol=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 70))
def test_numbers_of_4_bits_are_paired_without_loss(seed: int, rows: int, pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-8, 8, (rows, 2 * pairs), generator=generator, dtype=torch.int8)
    paired = pair_up(numbers)
    assert paired.dtype == torch.uint8
    assert paired.shape == (rows, pairs)
    assert torch.equal(take_apart(paired), numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_half_a_step_off_at_most(dtype: torch.dtype) -> None:
    x = random_weight(2, 90).view(2, 3, 30).to(dtype)
    x[0, 1] = 0
    numbers, scales = round_activations(x)
    assert numbers.dtype == torch.int8
    assert scales.shape == (2, 3, 1)
    error = (numbers.float() * scales - x.float()).abs()
    assert bool((error <= scales * (0.5 + 1e-4)).all())
