import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from paligemma2.errors import InputError
from paligemma2.processing import masks
from paligemma2.processing.masks import (
    crop_mask,
    crop_masks,
    mask_box,
    mask_to_polygons,
    mask_to_rle,
    paste_mask,
    paste_masks,
    polygons_to_mask,
    rle_to_mask,
)
from paligemma2.types import Box

WHOLE = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
# pycocotools 2.0.11 is older than the `copy` argument of NumPy 2.
old_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
sides = st.integers(1, 40)
noise = arrays.arrays(np.bool_, st.tuples(sides, sides))
corners = st.floats(-2, 3) | st.sampled_from([math.inf, -math.inf])
any_boxes = st.builds(Box, y_min=corners, x_min=corners, y_max=corners, x_max=corners)
conventions = st.sampled_from(["evaluator", "demo"])


@st.composite
def shapes(draw) -> np.ndarray:
    """Ellipses with or without a hole in them, at least 16 pixels wide, maybe cut by the picture's edge."""
    height, width = draw(st.integers(40, 90)), draw(st.integers(40, 90))
    y, x = np.mgrid[:height, :width] + 0.5
    y0, x0 = draw(st.floats(0.2, 0.8)) * height, draw(st.floats(0.2, 0.8)) * width
    a, b = draw(st.floats(8, 40)), draw(st.floats(8, 40))
    radius = np.hypot((y - y0) / a, (x - x0) / b)
    return (radius < 1) & (radius >= draw(st.sampled_from([0.0, 0.0, 0.5])))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def square(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[rows, columns] = True
    return mask


@old_pycocotools
@settings(max_examples=50, deadline=None)
@given(noise | shapes())
def test_run_lengths_are_those_of_pycocotools(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert mask_to_rle(mask) == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert (coco.decode(dict(mask_to_rle(mask))).astype(bool) == mask).all()


@settings(max_examples=50, deadline=None)
@given(noise | shapes())
def test_run_lengths_give_the_mask_back(mask):
    back = rle_to_mask(mask_to_rle(mask))
    assert back.dtype == np.bool_
    assert (back == mask).all()


def test_run_lengths_of_a_large_mask():
    mask = square(3000, 2000, slice(5, 2990), slice(7, 1990))
    assert (rle_to_mask(mask_to_rle(mask)) == mask).all()


@pytest.mark.parametrize("counts", [[11, 2, 3, 2, 3, 2, 12], b";230009", ";230009"])
def test_run_lengths_as_a_list_bytes_or_text(counts):
    mask = rle_to_mask({"size": [5, 7], "counts": counts})
    assert (mask == square(5, 7, slice(1, 3), slice(2, 5))).all()


def test_a_list_of_runs_goes_down_the_columns():
    assert rle_to_mask({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [
        [False, True, False],
        [True, False, False],
    ]


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_empty_pictures_have_run_lengths_too(size):
    assert rle_to_mask(mask_to_rle(np.zeros(size, dtype=bool))).shape == size


@pytest.mark.parametrize(
    ("rle", "match"),
    [
        ({"size": [5, 7], "counts": "1"}, "cover 1 pixels of a picture of 5 × 7"),
        ({"size": [5, 7], "counts": [-3, 38]}, "run lengths cover"),
        ({"size": [-1, -1], "counts": [1]}, "run lengths cover"),
        ({"size": [5, 7], "counts": "o"}, "end within a number"),
        ({"size": [5, 7], "counts": "1o"}, "end within a number"),
        ({"size": [5, 7], "counts": "o" * 20 + "1"}, "longer than any picture"),
        ({"size": [5, 7], "counts": "é"}, "'é' cannot stand"),
        ({"size": [5, 7]}, "are no run lengths"),
        ({"size": [5], "counts": []}, "are no run lengths"),
        ({"size": [1, 1], "counts": [0.5, 0.5]}, "are no run lengths"),
    ],
)
def test_damaged_run_lengths_are_refused(rle, match):
    with pytest.raises(InputError, match=match):
        rle_to_mask(rle)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), sides, sides)
def test_any_text_gives_a_mask_or_our_error(counts, height, width):
    with contextlib.suppress(InputError):
        assert rle_to_mask({"size": [height, width], "counts": counts}).shape == (height, width)


@settings(max_examples=50, deadline=None)
@given(noise | shapes())
def test_polygons_give_the_mask_back(mask):
    assert (polygons_to_mask(mask_to_polygons(mask), *mask.shape) == mask).all()


@old_pycocotools
@settings(max_examples=50, deadline=None)
@given(shapes())
def test_cocos_own_filling_of_our_polygons_agrees(mask):
    polygons = [polygon.reshape(-1).tolist() for polygon in mask_to_polygons(mask)]
    filled = coco.decode(coco.merge(coco.frPyObjects(polygons, *mask.shape))).astype(bool)
    assert iou(filled, mask) >= 0.97


def test_an_outline_runs_along_the_edges_of_pixels():
    (polygon,) = mask_to_polygons(np.ones((3, 5), dtype=bool))
    assert polygon.min(axis=0).tolist() == [0, 0]
    assert polygon.max(axis=0).tolist() == [5, 3]
    assert len(polygon) == 8  # the corners are cut; straight lines have no points between


def test_each_part_has_one_polygon_and_holes_belong_to_it():
    ring = square(30, 30, slice(2, 12), slice(2, 12)) & ~square(30, 30, slice(5, 9), slice(5, 9))
    polygons = mask_to_polygons(ring | square(30, 30, slice(20, 25), slice(20, 25)))
    assert len(polygons) == 2
    assert (polygons_to_mask(polygons[:1], 30, 30) == ring).all()


def test_an_empty_mask_has_no_polygon():
    assert mask_to_polygons(np.zeros((4, 4), dtype=bool)) == []
    assert not polygons_to_mask([], 4, 4).any()


def test_polygons_take_the_pixels_whose_centre_is_inside():
    mask = polygons_to_mask([[1.4, 1.4, 3.6, 1.4, 3.6, 2.6, 1.4, 2.6]], 5, 5)
    assert (mask == square(5, 5, slice(1, 3), slice(1, 4))).all()


def test_polygons_that_overlap_are_one_mask_and_are_cut_at_the_picture():
    left, right = [(-5, -5), (3, -5), (3, 9), (-5, 9)], [(2, 1), (90, 1), (90, 3), (2, 3)]
    expected = square(4, 6, slice(0, 4), slice(0, 3)) | square(4, 6, slice(1, 3), slice(2, 6))
    assert (polygons_to_mask([left, right], 4, 6) == expected).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=3, max_size=8), sides, sides)
def test_any_polygon_can_be_filled_from_any_start_and_in_both_directions(points, height, width):
    mask = polygons_to_mask([points], height, width)
    assert mask.shape == (height, width)
    assert mask.any() <= (min(x for x, _ in points) < width and min(y for _, y in points) < height)


@pytest.mark.parametrize(
    "polygon", [[], [1, 2, 3, 4], [0, 0, 1, 0, 1], [0, 0, 1, 0, 1, math.nan], [1e12] * 6]
)
def test_what_is_no_polygon_is_refused(polygon):
    with pytest.raises(InputError, match="not a polygon"):
        polygons_to_mask([polygon], 4, 4)


@settings(max_examples=50, deadline=None)
@given(noise)
def test_the_box_of_a_mask_is_the_smallest(mask):
    box = mask_box(mask)
    if box is None:
        assert not mask.any()
        return
    top, left, bottom, right = (round(side) for side in box.pixels(*mask.shape))
    assert mask[top:bottom, left:right].sum() == mask.sum()
    inside = mask[top:bottom, left:right]
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_a_crop_of_the_codecs_size_is_the_mask_itself():
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    assert (crop_mask(mask, WHOLE) == mask).all()
    moved = np.pad(mask, ((10, 26), (20, 16)))
    box = Box(y_min=0.1, x_min=0.2, y_max=0.74, x_max=0.84)
    assert (crop_mask(moved, box) == mask).all()


def test_a_crop_averages_over_all_pixels():
    stripes = np.zeros((512, 512), dtype=bool)
    stripes[:, ::8] = True
    window = crop_mask(stripes, WHOLE)
    assert window.dtype == np.float32
    assert window.mean() == pytest.approx(1 / 8, abs=0.01)
    assert window[:, 4:-4].std() < 0.01


def test_the_box_of_a_crop_is_rounded():
    mask = square(10, 10, slice(3, 7), slice(3, 7))
    box = Box(y_min=0.26, x_min=0.34, y_max=0.74, x_max=0.66)  # 2.6, 3.4, 7.4, 6.6
    assert (crop_mask(mask, box) == 1).all()


@settings(max_examples=50, deadline=None)
@given(shapes(), conventions)
def test_a_mask_comes_back_from_its_window(mask, convention):
    box = mask_box(mask)
    if box is None or min(box.y_max - box.y_min, box.x_max - box.x_min) * min(mask.shape) < 8:
        return
    decoded = 2 * crop_mask(mask, box) - 1
    assert iou(paste_mask(decoded, box, *mask.shape, convention=convention), mask) > 0.9


@pytest.mark.parametrize(
    ("convention", "rows", "columns"),
    [("evaluator", slice(2, 7), slice(3, 6)), ("demo", slice(3, 7), slice(3, 7))],
)
def test_the_evaluator_cuts_fractions_and_the_demo_rounds(convention, rows, columns):
    box = Box(y_min=0.26, x_min=0.34, y_max=0.74, x_max=0.66)
    mask = paste_mask(np.ones((64, 64)), box, 10, 10, convention=convention)
    assert (mask == square(10, 10, rows, columns)).all()


def test_the_evaluator_takes_what_is_above_zero_and_the_demo_above_half_of_255():
    faint = np.full((64, 64), 1e-4)  # 127.5 of 255 is cut to 127
    assert paste_mask(faint, WHOLE, 8, 8).all()
    assert not paste_mask(faint, WHOLE, 8, 8, convention="demo").any()
    assert not paste_mask(np.zeros((64, 64)), WHOLE, 8, 8).any()
    assert paste_mask(np.full((64, 64), 0.01), WHOLE, 8, 8, convention="demo").all()


def test_values_beyond_one_count_as_one_in_the_demo_only():
    decoded = np.where(np.arange(64) < 32, -1.0, 9.0) * np.ones((64, 1))
    evaluator = paste_mask(decoded, WHOLE, 640, 640)
    demo = paste_mask(decoded, WHOLE, 640, 640, convention="demo")
    assert demo.mean() == pytest.approx(0.5, abs=0.002)
    assert evaluator.mean() > demo.mean()


@settings(max_examples=50, deadline=None)
@given(any_boxes, sides, sides, conventions)
def test_any_box_can_be_cropped_and_pasted(box, height, width, convention):
    window = crop_mask(np.ones((height, width), dtype=bool), box)
    assert window.shape == (64, 64)
    assert (window == window[0, 0]).all()
    mask = paste_mask(np.ones((64, 64)), box, height, width, convention=convention)
    assert mask.shape == (height, width)


@pytest.mark.parametrize("convention", ["evaluator", "demo"])
def test_a_box_without_pixels_is_empty_both_ways(convention):
    for box in (Box(y_min=0.5, x_min=0, y_max=0.5, x_max=1), Box(y_min=0.9, x_min=0.9, y_max=0, x_max=0)):
        assert not crop_mask(np.ones((9, 9), dtype=bool), box).any()
        assert not paste_mask(np.ones((64, 64)), box, 9, 9, convention=convention).any()


@pytest.mark.parametrize("convention", ["evaluator", "demo"])
def test_batches_are_the_single_results(convention):
    rng = np.random.default_rng(1)
    boxes = [WHOLE, Box(y_min=0.1, x_min=0.2, y_max=0.7, x_max=0.5)]
    pictures = [rng.random((30, 20)) < 0.5, rng.random((50, 60)) < 0.5]
    windows = crop_masks(pictures, boxes)
    assert windows.shape == (2, 64, 64)
    assert all((w == crop_mask(p, b)).all() for w, p, b in zip(windows, pictures, boxes, strict=True))
    pasted = paste_masks(2 * windows - 1, boxes, 30, 20, convention=convention)
    for mask, window, box in zip(pasted, windows, boxes, strict=True):
        assert (mask == paste_mask(2 * window - 1, box, 30, 20, convention=convention)).all()
    assert crop_masks([], []).shape == (0, 64, 64)
    assert paste_masks(np.zeros((0, 64, 64)), [], 30, 20).shape == (0, 30, 20)


def test_wrong_shapes_and_counts_are_refused():
    with pytest.raises(InputError, match="1 masks but 2 boxes"):
        crop_masks([np.ones((3, 3), dtype=bool)], [WHOLE, WHOLE])
    with pytest.raises(InputError, match="2 masks but 1 boxes"):
        paste_masks(np.zeros((2, 64, 64)), [WHOLE], 3, 3)
    with pytest.raises(InputError, match=r"shape \[32, 32\]"):
        paste_mask(np.zeros((32, 32)), WHOLE, 3, 3)
    with pytest.raises(InputError, match="not a number"):
        crop_mask(np.ones((3, 3), dtype=bool), Box(y_min=math.nan, x_min=0, y_max=1, x_max=1))
    for call in (masks.mask_to_rle, masks.mask_to_polygons, masks.mask_box):
        with pytest.raises(InputError, match=r"\[3, 3\] of uint8 is not a mask"):
            call(np.ones((3, 3), dtype=np.uint8))
