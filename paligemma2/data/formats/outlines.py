"""Outlines of annotations: their area, their mask, and the one part that some formats can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paligemma2.data.rows import Annotation, Point, UnusableRow
from paligemma2.errors import InputError
from paligemma2.processing.masks import mask_to_polygons, polygons_to_mask, rle_to_mask


def polygon_area(flat: Sequence[float]) -> float:
    """Area inside a polygon [x1, y1, x2, y2, …], by the shoelace formula."""
    points = np.asarray(flat, dtype=np.float64).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    return float(abs((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()) / 2)


def rle_area(rle: Mapping[str, Any]) -> int:
    """Number of pixels in a mask of COCO's run lengths.

    Raises:
        UnusableRow: they are damaged.
    """
    return int(_mask_of_rle(rle).sum())


def mask_of(thing: Annotation, height: int, width: int) -> NDArray[np.bool_] | None:
    """The mask of an object in a picture of this size, bool [height, width]; None where it has no outline.

    Raises:
        UnusableRow: the outline is damaged.
    """
    if thing.polygons:
        scale = np.array([width, height])
        return polygons_to_mask([np.asarray(part) * scale for part in thing.polygons], height, width)
    return None if thing.rle is None else _mask_of_rle(thing.rle)


def _mask_of_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    try:
        return rle_to_mask(rle)
    except InputError as error:
        raise UnusableRow("a mask is damaged", error.message) from None


def largest_polygon(thing: Annotation, height: int, width: int) -> tuple[tuple[Point, ...], int]:
    """The part of an outline with the largest area, as fractions, and how many parts there are.

    Raises:
        UnusableRow: the outline is a mask that is damaged.
        MissingExtra: it is a mask, and the library for outlines is not installed.
    """
    parts = list(thing.polygons)
    if not parts and thing.rle is not None:
        parts = [
            tuple((float(x) / width, float(y) / height) for x, y in points)
            for points in mask_to_polygons(_mask_of_rle(thing.rle))
        ]
    if not parts:
        return (), 0
    return max(parts, key=lambda part: polygon_area([value for point in part for value in point])), len(parts)
