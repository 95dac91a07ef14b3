import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.model import low_bit
from paligemma2.model.low_bit import (
    GROUP,
    Bits,
    pair_up,
    quantize,
    restore,
    round_activations,
    take_apart,
)


@pytest.mark.parametrize("columns", [128, 200, 40])
@pytest.mark.parametrize("bits", [8, 4])
def test_no_weight_is_off_by_more_than_half_a_step_but_where_a_group_ends(bits: Bits, columns: int) -> None:
    weight = torch.randn(6, columns, generator=torch.Generator().manual_seed(0))
    low = quantize(weight, bits)
    groups = 1 if bits == 8 else -(-columns // GROUP)
    assert low.numbers.dtype == torch.int8
    assert (low.scales.shape, low.scales.dtype) == ((6, groups), torch.bfloat16)
    width = columns if bits == 8 else GROUP
    step = low.scales.float().abs().repeat_interleave(width, dim=1)[:, :columns]
    error = (restore(low) - weight).abs()
    # With 4 bits the numbers reach to -8 and to 7: what lies beyond 7.5 steps is off by up to one.
    assert (error <= (0.51 if bits == 8 else 1.05) * step).all()
    assert (error <= 0.51 * step).float().mean() > 0.9


def test_the_largest_of_a_group_of_4_bits_becomes_minus_eight_whatever_its_sign() -> None:
    low = quantize(torch.cat((torch.linspace(-0.5, 1.0, 128)[None], torch.linspace(-1.0, 0.5, 128)[None])), 4)
    assert low.numbers.amin(dim=1).tolist() == [-8, -8]
    assert (low.scales[:, 0].sign()).tolist() == [-1, 1]


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_of_zeros_stay_zeros(bits: Bits) -> None:
    weight = torch.zeros(2, 256)
    weight[1, 3] = 5.0
    assert torch.equal(restore(quantize(weight, bits))[0], weight[0])
    assert restore(quantize(weight, bits))[1, 3] == pytest.approx(5.0, rel=1e-2)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_matrix_is_rounded_the_same_in_any_number_of_parts(
    bits: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(50, 130)
    whole = quantize(weight, bits)
    monkeypatch.setattr(low_bit, "_NUMBERS_AT_ONCE", 7 * 130)
    parts = quantize(weight, bits)
    assert torch.equal(whole.numbers, parts.numbers)
    assert torch.equal(whole.scales, parts.scales)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-8, 7), min_size=2, max_size=40).filter(lambda row: len(row) % 2 == 0))
def test_two_numbers_in_a_byte_come_apart_again(row: list[int]) -> None:
    numbers = torch.tensor([row, row[::-1]], dtype=torch.int8)
    pairs = pair_up(numbers)
    assert (pairs.shape, pairs.dtype) == ((2, len(row) // 2), torch.uint8)
    assert torch.equal(take_apart(pairs), numbers)


def test_the_first_number_stands_in_the_low_half() -> None:
    assert pair_up(torch.tensor([[-8, 7]], dtype=torch.int8)).tolist() == [[0xF0]]


def test_activations_are_off_by_half_a_step_of_their_token() -> None:
    x = torch.randn(3, 100) * torch.tensor([[1.0], [100.0], [0.0]])
    numbers, scales = round_activations(x)
    assert (numbers.dtype, scales.shape) == (torch.int8, (3, 1))
    assert ((numbers * scales - x).abs() <= 0.501 * scales).all()
