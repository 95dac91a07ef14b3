"""Outlines of the seven shapes, as points around the origin."""

import math
import random
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "heart")

_MAX_ROTATION = math.radians(15)
_POINTS_PER_SHAPE = 48


def _circle() -> Points:
    angles = np.linspace(0, 2 * math.pi, _POINTS_PER_SHAPE, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _cross() -> Points:
    arm = 0.34
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    points: list[tuple[float, float]] = []
    for _ in range(4):
        points.extend(quarter)
        quarter = [(-y, x) for x, y in quarter]
    return np.array(points)


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, _POINTS_PER_SHAPE, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], axis=1) / 16


@lru_cache(maxsize=len(SHAPES))
def corners(shape: str) -> Points:
    """Float64 [points, 2] (x right, y down), about -1..1; the shared array must not be changed."""
    if shape == "circle":
        return _circle()
    if shape == "star":
        return _star()
    if shape == "cross":
        return _cross()
    if shape == "heart":
        return _heart()
    straight = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1), (1.08, 0.87), (-1.08, 0.87)],
        # Narrower than a square on its corner, so that no allowed rotation makes one look like the other.
        "diamond": [(0, -1), (0.66, 0), (0, 1), (-0.66, 0)],
    }
    return np.array(straight[shape], dtype=np.float64)


@lru_cache(maxsize=len(SHAPES))
def _fine_outline(shape: str) -> Points:
    """The same outline with points along the edges, for shapes drawn by an unsteady hand."""
    points = corners(shape)
    steps = max(1, _POINTS_PER_SHAPE // len(points))
    fractions = np.arange(steps)[:, None] / steps
    edges = [a + (b - a) * fractions for a, b in zip(points, np.roll(points, -1, axis=0), strict=True)]
    return np.concatenate(edges)


@lru_cache(maxsize=len(SHAPES))
def _outline_angles(shape: str) -> npt.NDArray[np.float64]:
    points = _fine_outline(shape)
    angles: npt.NDArray[np.float64] = np.arctan2(points[:, 1], points[:, 0])
    return angles


@lru_cache(maxsize=2 * len(SHAPES))
def inward_corners(shape: str, count: int) -> tuple[int, ...]:
    """Places of the corners that point inwards (the valleys of a star) in an outline of `count` points."""
    points = corners(shape)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    sharp = np.flatnonzero(turn < -0.3 * np.hypot(*before.T) * np.hypot(*after.T))
    return tuple(int(place) * (count // len(points)) for place in sharp)


def _wobble(shape: str, amplitude: float, rng: random.Random) -> Points:
    angles = _outline_angles(shape)
    radii = np.ones(len(angles))
    for waves in (2, 4, 9):
        height = amplitude * rng.uniform(0.3, 1.1) / math.sqrt(waves)
        radii += height * np.sin(waves * angles + rng.uniform(0, 2 * math.pi))
    wobbly: Points = _fine_outline(shape) * radii[:, None]
    return wobbly


def random_outline(shape: str, rng: random.Random, *, wobble: float = 0.0) -> Points:
    """One outline of `shape`, a little turned and stretched.

    Args:
        shape: one of `SHAPES`.
        rng: source of all choices.
        wobble: 0 for straight edges; 0.06 looks hand-drawn.

    Returns:
        Float64 [points, 2] (x right, y down); the longer side of its tight box is 1, its middle is 0.
    """
    points = _wobble(shape, wobble, rng) if wobble else corners(shape)
    stretch, angle = rng.uniform(0.93, 1.07), rng.uniform(-_MAX_ROTATION, _MAX_ROTATION)
    cosine, sine = math.cos(angle), math.sin(angle)
    points = points @ np.array([[cosine * stretch, sine * stretch], [-sine, cosine]])
    low, high = points.min(axis=0), points.max(axis=0)
    centred: Points = (points - (low + high) / 2) / (high - low).max()
    return centred
