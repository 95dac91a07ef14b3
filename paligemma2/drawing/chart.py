"""Curves as the geometry of small SVG pictures, which the templates draw."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 28
_MOST_POINTS = 300
_TICKS = 4


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One curve over the updates of a run.

    Attributes:
        title: what the curve shows.
        points: (updates, value) in order; a value that is not finite leaves a gap.
        is_log: draw the values, which are then above zero, by their logarithms.
        marked: the x of a point that stands out.
        control: a second curve to compare with, on the same axes.
    """

    title: str
    points: tuple[Point, ...]
    is_log: bool = False
    marked: float | None = None
    control: tuple[Point, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A point of the curve in the coordinates of the picture, and what it says."""

    x: float
    y: float
    text: str
    is_marked: bool


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A chart as `WIDTH` × `HEIGHT` units of a picture.

    Attributes:
        lines: parts of the curve between gaps, each as the `points` of a polyline.
        control_lines: those of the second curve.
        dots: the points of the curve; of very many the lowest and highest of each stretch.
        x_ticks: position and label.
        y_ticks: position and label.
        left, right, top, bottom: edges of the area of the curve.
        summary: what the curve shows, in words.
    """

    lines: tuple[str, ...]
    control_lines: tuple[str, ...] = ()
    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    summary: str


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """From values to positions, and the ticks in between."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.is_log
            else (self.low, self.high, value)
        )
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def labels(self) -> tuple[tuple[float, str], ...]:
        return tuple((round(self.place(tick), 1), _label(tick)) for tick in self.ticks)


def plot(chart: Chart) -> Plot:
    """The geometry of a chart; one without any finite value has an empty area."""
    points, control = thinned(chart.points), thinned(chart.control)
    finite = [(x, y) for x, y in points if _is_drawable(y, is_log=chart.is_log)]
    if not finite:
        return Plot(lines=(), dots=(), x_ticks=(), y_ticks=(), summary=f"{chart.title}: no values")
    xs = [x for x, _ in (*chart.points, *chart.control)]
    ys = [y for _, y in (*finite, *control) if _is_drawable(y, is_log=chart.is_log)]
    x_axis = _linear(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, is_whole=True)
    make = _logarithmic if chart.is_log else _linear
    y_axis = make(min(ys), max(ys), HEIGHT - _BOTTOM, _TOP)

    def placed(part: Sequence[Point]) -> str:
        return " ".join(f"{round(x_axis.place(x), 1)},{round(y_axis.place(y), 1)}" for x, y in part)

    (first_x, first_y), (last_x, last_y) = finite[0], finite[-1]
    return Plot(
        lines=tuple(map(placed, _parts(points, is_log=chart.is_log))),
        control_lines=tuple(map(placed, _parts(control, is_log=chart.is_log))),
        dots=tuple(
            Dot(
                x=round(x_axis.place(x), 1),
                y=round(y_axis.place(y), 1),
                text=f"{_label(x)}: {y:.4g}",
                is_marked=x == chart.marked,
            )
            for x, y in finite
        ),
        x_ticks=x_axis.labels(),
        y_ticks=y_axis.labels(),
        summary=(
            f"{chart.title}: {first_y:.4g} at {_label(first_x)} updates, {last_y:.4g} at {_label(last_x)}"
        ),
    )


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> tuple[Point, ...]:
    """At most about so many points: of each stretch the lowest and the highest, so that peaks stay."""
    if len(points) <= most:
        return tuple(points)
    length = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        finite = [point for point in stretch if math.isfinite(point[1])]
        ordered = sorted(finite or stretch[:1], key=lambda point: point[1])
        kept += sorted({ordered[0], ordered[-1]})
    return tuple(kept)


def _is_drawable(value: float, *, is_log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not is_log)


def _parts(points: Sequence[Point], *, is_log: bool) -> Iterator[list[Point]]:
    """Each stretch without gaps; a lone point makes no line."""
    part: list[Point] = []
    for x, y in (*points, (math.nan, math.nan)):
        if _is_drawable(y, is_log=is_log):
            part.append((x, y))
            continue
        if len(part) > 1:
            yield part
        part = []


def _linear(low: float, high: float, begin: float, end: float, *, is_whole: bool = False) -> _Axis:
    if low == high:
        room = 1.0 if is_whole else abs(low) / 10 or 1.0
        low, high = low - room, high + room
    step = _nice_step((high - low) / _TICKS, is_whole=is_whole)
    if not is_whole:  # the values get room up to the ticks around them
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    ticks = _multiples(step, low, high)
    return _Axis(low=low, high=high, begin=begin, end=end, ticks=ticks)


def _logarithmic(low: float, high: float, begin: float, end: float) -> _Axis:
    if low == high:
        low, high = low / 2, high * 2
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1, 1 + (last - first) // (2 * _TICKS))
    factors = (1, 2, 5) if high / low < 100 else (1,)
    ticks = tuple(
        tick for decade in decades for factor in factors if low <= (tick := factor * 10.0**decade) <= high
    )
    if len(ticks) < 2:
        ticks = _multiples(_nice_step((high - low) / _TICKS), low, high)
    return _Axis(low=low, high=high, begin=begin, end=end, ticks=ticks, is_log=True)


def _multiples(step: float, low: float, high: float) -> tuple[float, ...]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def _nice_step(least: float, *, is_whole: bool = False) -> float:
    """1, 2 or 5 times a power of ten, not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    return max(1.0, step) if is_whole else step


def _label(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}"
