import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.data.formats.boxes import box_from_pixels, check_has_no_text, checked_box, numbers
from paligemma2.data.rows import Annotation, DataRow, RowProblem, UnusableRow
from paligemma2.types import Box

ROW = DataRow(images=(Path("a.png"),), file=Path("file"), line=3)


def check(y_min: float, x_min: float, y_max: float, x_max: float) -> tuple[Box | None, list[RowProblem]]:
    problems: list[RowProblem] = []
    box = Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)
    return checked_box(box, "cat", ROW, problems.append), problems


@pytest.mark.parametrize("values", [None, "1234", [1, 2, 3], [1, 2, 3, None], [1, 2, 3, "4"], {"x": 1}])
def test_what_is_not_four_numbers_is_no_box(values: Any) -> None:
    with pytest.raises(UnusableRow, match="a box is not made of numbers"):
        numbers(values, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_box_is_finite(value: float) -> None:
    with pytest.raises(UnusableRow, match="not made of numbers"):
        box_from_pixels([0, 0, value, 1], 10, 10)


def test_pixels_are_corner_and_size() -> None:
    assert box_from_pixels([1, 2, 4, 8], 20, 10) == Box(y_min=0.1, x_min=0.1, y_max=0.5, x_max=0.5)


def test_a_sound_box_stays_as_it_is() -> None:
    assert check(0, 0.25, 1, 0.5) == (Box(y_min=0, x_min=0.25, y_max=1, x_max=0.5), [])


def test_a_box_over_the_edge_is_clipped_and_reported() -> None:
    box, (problem,) = check(-0.1, 0.5, 0.5, 1.2)
    assert box == Box(y_min=0, x_min=0.5, y_max=0.5, x_max=1)
    assert (problem.file, problem.line, problem.is_skipped) == (Path("file"), 3, False)
    assert "clipped" in problem.reason
    assert "1.2" in problem.detail


def test_six_decimals_over_the_edge_are_rounding() -> None:
    assert check(-0.000001, 0, 1.000001, 1) == (Box(y_min=0, x_min=0, y_max=1, x_max=1), [])


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((0.5, 0.1, 0.4, 0.2), "wrong way round"),
        ((0.1, 0.5, 0.2, 0.4), "wrong way round"),
        ((0.5, 0.1, 0.5, 0.2), "no area"),
        ((1.5, 0.1, 1.7, 0.2), "no area"),
    ],
)
def test_a_box_without_area_is_left_out_and_reported(
    corners: tuple[float, float, float, float], reason: str
) -> None:
    box, (problem,) = check(*corners)
    assert box is None
    assert reason in problem.reason
    assert not problem.is_skipped


@given(*[st.floats(-10, 10)] * 4)
def test_what_is_kept_is_inside_and_what_is_not_as_it_was_is_reported(
    y_min: float, x_min: float, y_max: float, x_max: float
) -> None:
    box, problems = check(y_min, x_min, y_max, x_max)
    if box is not None:
        assert 0 <= box.y_min < box.y_max <= 1
        assert 0 <= box.x_min < box.x_max <= 1
    if box is None or box.pixels(1, 1) != pytest.approx((y_min, x_min, y_max, x_max), abs=3e-6):
        assert len(problems) == 1


def test_a_picture_without_objects_is_no_text() -> None:
    thing = Annotation(label="cat", box=Box(y_min=0, x_min=0, y_max=1, x_max=1))
    check_has_no_text(ROW)
    check_has_no_text(DataRow(images=(), suffix="cat", objects=(thing,), file=Path("file")))
    with pytest.raises(UnusableRow, match="no objects"):
        check_has_no_text(DataRow(images=(), suffix="cat", file=Path("file")))
