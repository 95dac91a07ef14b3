import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.processing.locations import (
    SQUASHED,
    box_to_indices,
    box_to_text,
    indices_to_box,
    location_index,
    padded,
)
from paligemma2.types import Box

FRACTIONS = st.floats(0, 1)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 1023)] * 4), st.sampled_from([1023, 1024]))
def test_indices_come_back_through_a_box(indices, divisor):
    assert box_to_indices(indices_to_box(indices, divisor=divisor), divisor=divisor) == indices


@settings(deadline=None)
@given(st.floats(0, 1))
def test_a_coordinate_moves_at_most_half_a_step(value):
    assert abs(location_index(value) / 1023 - value) <= 0.5 / 1023 + 1e-12


@pytest.mark.parametrize(
    ("value", "index"), [(-0.1, 0), (0.0, 0), (0.5, 512), (1.0, 1023), (7.0, 1023), (math.inf, 1023)]
)
def test_values_are_rounded_and_clipped(value, index):
    assert location_index(value) == index


def test_text_has_y_before_x_and_four_digits():
    box = Box(y_min=0.0, x_min=7 / 1023, y_max=0.5, x_max=1.0)
    assert box_to_text(box) == "<loc0000><loc0007><loc0512><loc1023>"


def test_the_last_token_is_the_edge_for_the_demo_too():
    whole = Box(y_min=0.0, x_min=0.25, y_max=1.0, x_max=1.0)
    assert box_to_text(whole, divisor=1024) == "<loc0000><loc0256><loc1023><loc1023>"


def test_the_demo_divides_by_1024():
    assert indices_to_box((0, 256, 512, 768), divisor=1024) == Box(y_min=0, x_min=0.25, y_max=0.5, x_max=0.75)


@pytest.mark.parametrize("indices", [(0, 0, 1), (0, 0, 1024, 1), (-1, 0, 1, 1)])
def test_what_is_no_box_is_refused(indices):
    with pytest.raises(InputError, match="is not a box"):
        indices_to_box(indices)


def test_a_coordinate_must_be_a_number():
    with pytest.raises(InputError, match="not a number"):
        location_index(math.nan)


@settings(deadline=None)
@given(
    st.tuples(*[FRACTIONS] * 4),
    st.integers(1, 8000),
    st.integers(1, 8000),
    st.sampled_from(["center", "top_left"]),
)
def test_a_box_comes_back_from_a_padded_square(corners, height, width, at):
    box = Box(y_min=corners[0], x_min=corners[1], y_max=corners[2], x_max=corners[3])
    placement = padded(height, width, at=at)
    back = placement.to_picture(placement.to_square(box))
    # A picture of 1 × 8000 has an eight-thousandth of the square, and of the precision.
    assert back.pixels(height, width) == pytest.approx(box.pixels(height, width), abs=1e-6)


@settings(deadline=None)
@given(st.tuples(*[FRACTIONS] * 4))
def test_squashing_keeps_fractions(corners):
    box = Box(y_min=corners[0], x_min=corners[1], y_max=corners[2], x_max=corners[3])
    assert SQUASHED.to_square(box) == SQUASHED.to_picture(box) == box


@pytest.mark.parametrize(
    ("at", "in_square"),
    [
        ("center", Box(y_min=0.375, x_min=0.25, y_max=0.75, x_max=1.0)),
        ("top_left", Box(y_min=0.125, x_min=0.25, y_max=0.5, x_max=1.0)),
    ],
)
def test_a_wide_picture_has_its_padding_above_and_below(at, in_square):
    box = Box(y_min=0.25, x_min=0.25, y_max=1.0, x_max=1.0)
    assert padded(100, 200, at=at).to_square(box) == in_square


def test_a_tall_picture_has_its_padding_left_and_right():
    whole = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
    assert padded(400, 100).to_square(whole) == Box(y_min=0.0, x_min=0.375, y_max=1.0, x_max=0.625)


def test_what_lies_on_the_padding_is_cut_off():
    whole_square = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=0.5)
    assert padded(100, 200).to_picture(whole_square) == Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=0.5)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5)])
def test_a_picture_without_pixels_has_no_place(size):
    with pytest.raises(InputError, match="has no place"):
        padded(*size)
