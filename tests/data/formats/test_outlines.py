from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycoco

from paligemma2.data.formats.outlines import largest_polygon, mask_of, polygon_area, rle_area
from paligemma2.data.rows import Annotation, UnusableRow
from paligemma2.processing.masks import mask_to_rle, rle_to_mask
from paligemma2.types import Box

WHOLE = Box(y_min=0, x_min=0, y_max=1, x_max=1)


def outlined(**outline: Any) -> Annotation:
    return Annotation(label="cat", box=WHOLE, **outline)


@given(st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50), st.booleans())
def test_the_area_of_a_rectangle_is_width_times_height_whichever_way_round(
    x: float, y: float, width: float, height: float, is_reversed: bool
) -> None:
    points = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    flat = [value for point in (points[::-1] if is_reversed else points) for value in point]
    assert polygon_area(flat) == pytest.approx(width * height)


@pytest.mark.parametrize("is_compressed", [True, False])
def test_the_area_of_a_mask_is_its_pixels(is_compressed: bool) -> None:
    mask = np.zeros((7, 9), dtype=bool)
    mask[2:5, 3:9] = True
    runs = [3 * 7 + 2, *[3, 4] * 5, 3, 2]
    rle = mask_to_rle(mask) if is_compressed else {"size": [7, 9], "counts": runs}
    assert rle_area(rle) == 18
    assert (mask_of(outlined(rle=rle), 7, 9) == mask).all()


def test_polygons_are_filled_as_in_pycocotools_up_to_the_edge() -> None:
    parts = (((0.1, 0.1), (0.5, 0.1), (0.3, 0.6)), ((0.6, 0.6), (0.9, 0.6), (0.9, 0.9), (0.6, 0.9)))
    found = mask_of(outlined(polygons=parts), 200, 300)
    flat = [[value for x, y in part for value in (x * 300, y * 200)] for part in parts]
    expected = rle_to_mask(pycoco.merge(pycoco.frPyObjects(flat, 200, 300)))
    assert found is not None
    assert (found & expected).sum() / (found | expected).sum() > 0.98


def test_an_object_without_outline_has_no_mask() -> None:
    assert mask_of(outlined(), 5, 5) is None
    assert largest_polygon(outlined(), 5, 5) == ((), 0)


def test_a_damaged_mask_is_named() -> None:
    with pytest.raises(UnusableRow, match="a mask is damaged"):
        rle_area({"size": [2, 2], "counts": "é"})


def test_of_several_parts_the_largest_is_taken() -> None:
    small, large = ((0, 0), (0.1, 0), (0.1, 0.1)), ((0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1))
    assert largest_polygon(outlined(polygons=(small, large)), 10, 10) == (large, 2)


def test_a_mask_becomes_the_outline_of_its_largest_part() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[2:4, 2:4] = mask[10:18, 20:36] = True
    points, parts = largest_polygon(outlined(rle=mask_to_rle(mask)), 20, 40)
    assert parts == 2
    again = mask_of(outlined(polygons=(points,)), 20, 40)
    mask[2:4, 2:4] = False
    assert again is not None
    assert (again == mask).all()
