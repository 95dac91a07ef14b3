import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.drawing.chart import HEIGHT, WIDTH, Chart, Plot, plot, thinned

VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


def curve(*values: float, is_log: bool = False, marked: float | None = None) -> Plot:
    points = tuple((10.0 * i, value) for i, value in enumerate(values))
    return plot(Chart(title="loss", points=points, is_log=is_log, marked=marked))


def test_the_curve_goes_from_the_left_edge_to_the_right_and_down_where_values_fall() -> None:
    drawn = curve(4.0, 2.0, 0.0)
    (line,) = drawn.lines
    corners = [tuple(map(float, pair.split(","))) for pair in line.split()]
    assert corners == [
        (drawn.left, drawn.top),
        ((drawn.left + drawn.right) / 2, (drawn.top + drawn.bottom) / 2),
        (drawn.right, drawn.bottom),
    ]


def test_ticks_are_round_numbers_at_their_places() -> None:
    drawn = curve(0.0, 0.55)
    assert [label for _, label in drawn.y_ticks] == ["0", "0.2", "0.4", "0.6"]
    assert [at for at, _ in drawn.y_ticks] == sorted((at for at, _ in drawn.y_ticks), reverse=True)
    assert [label for _, label in drawn.x_ticks] == ["0", "5", "10"]


def test_small_and_large_numbers_have_short_labels() -> None:
    labels = [label for drawn in (curve(0, 3e-6), curve(0, 2e7)) for _, label in drawn.y_ticks]
    assert max(map(len, labels)) <= 7
    assert "1e-06" in labels


def test_a_value_that_is_no_number_leaves_a_gap() -> None:
    drawn = curve(1.0, 2.0, math.nan, 3.0, 4.0, math.inf, 5.0)
    assert [len(line.split()) for line in drawn.lines] == [2, 2]
    assert len(drawn.dots) == 5


def test_logarithms_put_equal_factors_at_equal_distances() -> None:
    drawn = curve(1.0, 10.0, 100.0, is_log=True)
    heights = [dot.y for dot in drawn.dots]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert [label for _, label in drawn.y_ticks] == ["1", "10", "100"]


def test_zero_has_no_logarithm_and_leaves_a_gap() -> None:
    assert len(curve(1.0, 0.0, 2.0, is_log=True).dots) == 2


def test_one_point_is_drawn_and_the_chosen_one_is_marked() -> None:
    assert [(dot.text, dot.is_marked) for dot in curve(0.5, marked=0.0).dots] == [("0: 0.5", True)]
    assert [dot.is_marked for dot in curve(1.0, 2.0, marked=10.0).dots] == [False, True]


def test_without_values_the_area_is_empty_and_says_so() -> None:
    drawn = curve(math.nan)
    assert (drawn.lines, drawn.dots, drawn.summary) == ((), (), "loss: no values")


def test_the_summary_tells_begin_and_end() -> None:
    assert curve(4.7, 0.5).summary == "loss: 4.7 at 0 updates, 0.5 at 10"


def test_of_many_points_the_peaks_stay() -> None:
    points = [(float(i), 1000.0 if i == 1234 else math.sin(i)) for i in range(10_000)]
    kept = thinned(points)
    assert len(kept) <= 300
    assert (1234.0, 1000.0) in kept
    assert list(kept) == sorted(kept)


def test_of_many_points_what_is_no_number_hides_no_peak() -> None:
    points = [(float(i), math.nan if i % 7 == 0 else float(i)) for i in range(1000)]
    kept = [y for _, y in thinned(points)]
    assert 999.0 in kept


@given(st.lists(VALUES, max_size=40), st.booleans())
def test_any_values_stay_inside_of_the_picture(values: list[float], is_log: bool) -> None:
    drawn = curve(*values, is_log=is_log)
    places = [(dot.x, dot.y) for dot in drawn.dots]
    places += [(at, drawn.bottom) for at, _ in drawn.x_ticks] + [(drawn.left, at) for at, _ in drawn.y_ticks]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert len(drawn.y_ticks) <= 12


def test_a_control_is_drawn_on_the_axes_of_the_curve() -> None:
    chart = Chart(title="score", points=((0, 0.0), (10, 0.5)), control=((0, 0.0), (20, 1.0)))
    drawn = plot(chart)
    (line,), (control,) = drawn.lines, drawn.control_lines
    begin, end = (tuple(map(float, pair.split(","))) for pair in control.split())
    assert begin == (drawn.left, drawn.bottom)
    assert end == (drawn.right, drawn.top)
    middle = ((drawn.left + drawn.right) / 2, (drawn.top + drawn.bottom) / 2)
    assert tuple(map(float, line.split()[1].split(","))) == middle
    assert len(drawn.dots) == 2
