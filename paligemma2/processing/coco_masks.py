"""Masks of COCO's polygons, pixel by pixel as COCO's own code fills them.

`masks.polygons_to_mask` takes the pixels whose centre is inside. COCO rounds corners to a fifth of a pixel
and walks along the edges, which gives other pixels at the border (`rleFrPoly` of its `maskApi.c`). References
of published numbers are its masks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paligemma2.errors import InputError
from paligemma2.processing.masks import Mask

_SCALE = 5  # of the grid that edges are drawn in
_FAR = 1e6  # pixels; edges are walked point by point
Points = NDArray[np.int64]


def coco_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    """The pixels of at least one of the polygons, bool [height, width]; equal to what `pycocotools` fills.

    Args:
        polygons: x1, y1, x2, y2, … in pixels.
        height: of the picture.
        width: of the picture.

    Raises:
        InputError: a polygon has less than three points, or a coordinate is not a number near the picture.
    """
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        numbers = np.asarray(polygon, dtype=np.float64)
        if numbers.size < 6 or numbers.size % 2 or not (np.abs(numbers) < _FAR).all():
            raise InputError(
                f"{numbers.size} numbers are not a polygon",
                hint="give x and y, finite, of at least three points",
            )
        mask |= _filled(numbers.reshape(-1, 2), height, width)
    return mask


def _filled(corners: NDArray[np.float64], height: int, width: int) -> Mask:
    x, y = _outline((corners * _SCALE + 0.5).astype(np.int64))
    steps = np.flatnonzero(x[1:] != x[:-1]) + 1
    before, after = x[steps - 1], x[steps]
    column = (np.minimum(before, after) + 0.5) / _SCALE - 0.5
    row = (np.minimum(y[steps - 1], y[steps]) + 0.5) / _SCALE - 0.5
    is_used = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    mask = np.zeros((height, width), dtype=bool)
    if not is_used.any():
        return mask
    columns, rows = column[is_used].astype(np.int64), np.ceil(row[is_used].clip(0, height)).astype(np.int64)
    left, right = int(columns.min()), int(columns.max()) + 1
    # From each such place on, down the columns and on to the next, inside becomes outside and the reverse.
    turns = np.bincount((columns - left) * height + rows, minlength=(right - left) * height)
    is_inside = np.cumsum(turns[: (right - left) * height], dtype=np.uint8) % 2 == 1
    mask[:, left:right] = is_inside.reshape(right - left, height).T
    return mask


def _outline(corners: Points) -> tuple[Points, Points]:
    """The points of a fine grid along all edges, in order: x and y."""
    first, last = corners, np.roll(corners, -1, axis=0)
    lengths = np.abs(last - first)
    counts = lengths.max(axis=1)
    edge = np.repeat(np.arange(len(corners)), counts + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(counts + 1) - counts - 1, counts + 1)
    along = np.where(lengths[:, 0] >= lengths[:, 1], 0, 1)
    edges = np.arange(len(corners))
    is_turned = first[edges, along] > last[edges, along]  # edges are walked as if they went up
    low = np.where(is_turned[:, None], last, first)
    high = np.where(is_turned[:, None], first, last)
    slope = (high - low)[edges, 1 - along] / np.maximum(counts, 1)
    step = np.where(is_turned[edge], counts[edge] - step, step)
    points = np.empty((len(edge), 2), dtype=np.int64)
    rows = np.arange(len(edge))
    points[rows, along[edge]] = low[edge, along[edge]] + step
    across = low[edge, 1 - along[edge]] + slope[edge] * step + 0.5
    points[rows, 1 - along[edge]] = across.astype(np.int64)
    return points[:, 0], points[:, 1]
