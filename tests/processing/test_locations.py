import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.processing.locations import box_to_indices, box_to_text, indices_to_box, location_index
from paligemma2.types import Box


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 1023)] * 4))
def test_indices_come_back_through_a_box(indices):
    assert box_to_indices(indices_to_box(indices)) == indices


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


def test_the_demo_divides_by_1024():
    assert indices_to_box((0, 256, 512, 768), divisor=1024) == Box(y_min=0, x_min=0.25, y_max=0.5, x_max=0.75)


@pytest.mark.parametrize("indices", [(0, 0, 1), (0, 0, 1024, 1), (-1, 0, 1, 1)])
def test_what_is_no_box_is_refused(indices):
    with pytest.raises(InputError, match="is not a box"):
        indices_to_box(indices)


def test_a_coordinate_must_be_a_number():
    with pytest.raises(InputError, match="not a number"):
        location_index(math.nan)
