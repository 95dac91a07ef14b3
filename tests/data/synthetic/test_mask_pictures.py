import dataclasses
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.data.synthetic.mask_pictures import (
    FAMILIES,
    Drawing,
    Figure,
    draw_figure,
    figure_of,
    held_out_figure,
    random_drawing,
    random_family,
)
from paligemma2.errors import InputError

SQUARE = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
TRIANGLE = np.array([(0.0, -0.5), (0.5, 0.5), (-0.5, 0.5)])


def figure(*outlines, solid=(), softness=0.0):
    return Figure(outlines=outlines, is_solid=solid or (True,) * len(outlines), softness=softness)


def drawn(*arguments, **options):
    mask = draw_figure(*arguments, **options)
    assert mask is not None
    return mask


def iou(first, second):
    first, second = first >= 128, second >= 128
    return (first & second).sum() / (first | second).sum()


def test_a_square_fills_its_box_in_any_size():
    for size in (48, 100, 256):
        mask = drawn(figure(SQUARE), Drawing(size=size))
        assert (mask.shape, mask.dtype) == ((64, 64), np.uint8)
        assert mask[4:-4, 4:-4].min() == 255
        assert (mask >= 128).mean() > 0.98


def test_a_triangle_covers_half_of_its_box_and_stands_upright():
    mask = drawn(figure(TRIANGLE), Drawing())
    assert (mask >= 128).mean() == pytest.approx(0.5, abs=0.03)
    assert (mask[60] >= 128).mean() > 0.9
    assert (mask[3] >= 128).mean() < 0.1


@given(family=st.sampled_from(FAMILIES), index=st.integers(0, 500))
@settings(max_examples=60, deadline=None)
def test_every_mask_touches_all_four_sides_of_its_box(family, index):
    mask = drawn(held_out_figure(family, "test", index), Drawing())
    # A soft or slanted tip is thinner than a pixel of the mask: it may stay below half there.
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.max() > 16


def test_a_hole_is_taken_away_and_a_union_added():
    hole = figure(SQUARE, SQUARE * 0.5, solid=(True, False))
    mask = drawn(hole, Drawing())
    assert mask[32, 32] == 0
    assert (mask >= 128).mean() == pytest.approx(0.75, abs=0.03)
    union = drawn(figure(SQUARE - 0.5, SQUARE + 0.5), Drawing())
    assert union[16, 16] == union[48, 48] == 255
    assert union[16, 48] == union[48, 16] == 0


def test_soft_edges_are_grey_and_hard_ones_nearly_not():
    soft, hard = (drawn(figure(TRIANGLE, softness=amount), Drawing()) for amount in (0.1, 0.0))
    grey = [((mask > 32) & (mask < 224)).mean() for mask in (soft, hard)]
    assert grey[0] > 3 * grey[1]


def test_a_turn_goes_to_the_right_by_its_angle():
    bar = np.array([(-0.5, -0.05), (0.5, -0.05), (0.5, 0.05), (-0.5, 0.05)])
    mask = drawn(figure(bar), Drawing(turn=math.radians(45)))
    assert mask[12, 12] > 128 > mask[12, 52]


def test_a_shift_moves_the_box_by_shares_of_its_side():
    mask = drawn(figure(SQUARE), Drawing(shifts=(-0.1, 0, 0, 0)))
    edge = round(64 * 0.1 / 1.1)
    assert (mask[8:-8, : edge - 3] == 0).all()
    assert (mask[8:-8, edge + 3 : -8] == 255).all()


def test_a_figure_of_which_nothing_is_left_has_no_mask():
    assert draw_figure(figure(SQUARE, SQUARE * 1.1, solid=(True, False)), Drawing()) is None
    sliver = figure(SQUARE, SQUARE * 0.98, solid=(True, False))
    assert draw_figure(sliver, Drawing()) is None


@given(family=st.sampled_from(FAMILIES), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_changed_drawing_is_almost_the_same_mask(family, seed):
    rng = random.Random(seed)
    same = figure_of(family, rng)
    changed = draw_figure(same, dataclasses.replace(random_drawing(rng, amount=1.0), size=256))
    assert changed is None or iou(drawn(same, Drawing()), changed) > 0.5


def test_the_amount_scales_the_change():
    none = random_drawing(random.Random(1), amount=0.0)
    assert (none.turn, none.stretch, none.shifts) == (0.0, (1.0, 1.0), (0.0, 0.0, 0.0, 0.0))
    one, half = (random_drawing(random.Random(1), amount=amount) for amount in (1.0, 0.5))
    assert one.turn == pytest.approx(2 * half.turn)
    assert abs(one.turn) <= math.radians(4)


def test_held_out_figures_are_a_function_of_family_split_and_index():
    for family in FAMILIES:
        masks = [
            drawn(held_out_figure(family, split, index), Drawing())
            for split, index in (("test", 0), ("test", 0), ("test", 1), ("train", 0))
        ]
        assert np.array_equal(masks[0], masks[1])
        assert not np.array_equal(masks[0], masks[2])
        assert not np.array_equal(masks[0], masks[3])
    with pytest.raises(InputError, match="no split 'dev'"):
        held_out_figure("shape", "dev", 0)


def test_shapes_are_drawn_most_and_every_family_sometimes():
    rng = random.Random(0)
    counts = Counter(random_family(rng) for _ in range(2000))
    assert counts.keys() == set(FAMILIES)
    assert counts.most_common(1)[0][0] == "shape"
    assert min(counts.values()) > 80
