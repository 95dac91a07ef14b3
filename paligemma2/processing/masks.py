"""Masks in pixels: to run lengths and polygons and back, into the mask codec's window and out of it.

A mask is bool [height, width] of a whole picture. The window is the inside of a box as the mask codec reads
and writes it, 64 × 64.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paligemma2.errors import InputError
from paligemma2.optional import require
from paligemma2.types import Box

Mask = NDArray[np.bool_]
Paste = Literal["evaluator", "demo"]
WINDOW = 64
_FAR = 1e9  # pixels; far beyond any picture, and near enough for exact arithmetic
_DIGIT_BITS, _GOES_ON, _IS_NEGATIVE, _FIRST_SIGN = 5, 32, 16, 48
_MAX_LETTERS = 8  # of one number: 40 bits


class RunLengths(TypedDict):
    """COCO's compressed run-length encoding: (height, width) and the runs as text."""

    size: list[int]
    counts: str


def mask_to_rle(mask: Mask) -> RunLengths:
    """The mask as COCO writes it, equal to what `pycocotools` makes: runs of 0 and 1, column by column.

    Raises:
        InputError: the mask is not bool [height, width].
    """
    height, width = _checked(mask).shape
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(changes, prepend=0, append=flat.size)
    return {"size": [height, width], "counts": _runs_to_text(runs.tolist())}


def rle_to_mask(rle: Mapping[str, Any]) -> Mask:
    """The mask of COCO's run lengths: bool [height, width].

    Args:
        rle: `size` (height, width) and `counts`: text or bytes (compressed), or a list of runs (as in the
            crowd annotations of COCO).

    Raises:
        InputError: there are no run lengths, they are damaged, or do not cover the picture exactly.
    """
    try:
        height, width = (operator.index(length) for length in rle["size"])
        runs = _runs(rle["counts"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{str(rle)[:80]!r} are no run lengths", hint="give {'size': [height, width], 'counts': …}"
        ) from error
    if min([height, width, *runs]) < 0 or sum(runs) != height * width:
        raise InputError(
            f"run lengths cover {sum(runs)} pixels of a picture of {height} × {width}",
            hint="the annotation is damaged, or belongs to a picture of another size",
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def mask_to_polygons(mask: Mask) -> list[NDArray[np.float64]]:
    """Outlines of the mask's parts: float64 [points, 2] of (x, y) in pixels, without the first point again.

    x = 0 is the left edge of the picture and x = width the right one. An outline runs half-way between pixels
    inside and outside, so `polygons_to_mask` gives the same mask back. A hole is joined to the outline around
    it by a seam of no width: each polygon stands for itself, as COCO and YOLO need it. Pixels that only touch
    by a corner may be one part or two.

    Raises:
        InputError: the mask is not bool [height, width].
        MissingExtra: `contourpy` is not installed.
    """
    contourpy = require("contourpy", extra="masks")
    values = np.pad(
        _checked(mask).astype(np.float64), 1
    )  # so that parts at the edge of the picture are closed
    generator = contourpy.contour_generator(z=values, fill_type=contourpy.FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        rings = [_without_straight_points(points[start : end - 1]) for start, end in _pairs(offsets)]
        polygons.append(
            _joined(rings[0], rings[1:]) - 0.5
        )  # from centres of padded pixels to edges of pixels
    return polygons


def polygons_to_mask(polygons: Sequence[Any], height: int, width: int) -> Mask:
    """The pixels whose centre lies in at least one of the polygons: bool [height, width].

    Args:
        polygons: each [points, 2] of (x, y) in pixels, or the same numbers in one row, as in COCO's files. An
            outline that crosses itself encloses what it goes around an odd number of times.
        height: of the picture; what lies outside of it is cut.
        width: of the picture.

    Raises:
        InputError: a polygon has less than three points, or a coordinate is not a finite number.
    """
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        points = _points(polygon)
        (left, top), (right, bottom) = _pixels_around(points, height, width)
        mask[top:bottom, left:right] |= _fill(points - (left, top), bottom - top, right - left)
    return mask


def mask_box(mask: Mask) -> Box | None:
    """The smallest box around the mask; None for an empty mask."""
    rows, columns = np.flatnonzero(_checked(mask).any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    height, width = mask.shape
    return Box(
        y_min=rows[0].item() / height,
        x_min=columns[0].item() / width,
        y_max=(rows[-1].item() + 1) / height,
        x_max=(columns[-1].item() + 1) / width,
    )


def crop_mask(mask: Mask, box: Box) -> NDArray[np.float32]:
    """What the mask codec's encoder reads: the inside of the box, float32 [64, 64] in [0, 1].

    The box is rounded to whole pixels and its inside resized bilinearly, averaging over all source pixels
    (big_vision `pp/proj/paligemma/segmentation.py`). A box without a pixel in it gives zeros. Corners outside
    the picture are moved to its edge, as by location tokens.

    Raises:
        InputError: the mask is not bool [height, width], or the box has a corner that is not a number.
    """
    top, left, bottom, right = _corners(box, *_checked(mask).shape, is_rounded=True)
    if bottom <= top or right <= left:
        return np.zeros((WINDOW, WINDOW), dtype=np.float32)
    inside = Image.fromarray(mask[top:bottom, left:right].astype(np.float32))
    resized = np.asarray(inside.resize((WINDOW, WINDOW), Image.Resampling.BILINEAR))
    return resized.clip(0, 1)  # weights add up to 1 within float32's noise


def crop_masks(masks: Sequence[Mask], boxes: Sequence[Box]) -> NDArray[np.float32]:
    """`crop_mask` of each mask and box, which may be of pictures of different sizes: float32 [masks, 64, 64].

    Raises:
        InputError: as `crop_mask`, or there are not as many boxes as masks.
    """
    _check_counts(len(masks), len(boxes))
    windows = [crop_mask(mask, box) for mask, box in zip(masks, boxes, strict=True)]
    return np.stack(windows) if windows else np.zeros((0, WINDOW, WINDOW), dtype=np.float32)


def paste_mask(
    decoded: NDArray[np.floating[Any]], box: Box, height: int, width: int, *, convention: Paste = "evaluator"
) -> Mask:
    """The mask of a whole picture from the inside of its box: bool [height, width].

    Args:
        decoded: [64, 64] as the mask codec writes it, about -1 (outside) to 1 (inside).
        box: where it belongs; corners outside the picture are moved to its edge. A box without a pixel in it
            gives an empty mask.
        height: of the picture.
        width: of the picture.
        convention: "evaluator" cuts fractions off the box's pixels, resizes bilinearly in float, and takes
            what is above 0 (big_vision's evaluators); "demo" rounds the box, resizes 8-bit grey with Pillow's
            bicubic default, and takes what is above one half (the Hugging Face demo).

    Raises:
        InputError: `decoded` has another shape, or the box has a corner that is not a number.
    """
    if decoded.shape != (WINDOW, WINDOW):
        raise InputError(
            f"a decoded mask of shape {list(decoded.shape)}", hint=f"give [{WINDOW}, {WINDOW}] for each box"
        )
    top, left, bottom, right = _corners(box, height, width, is_rounded=convention == "demo")
    mask = np.zeros((height, width), dtype=bool)
    if bottom > top and right > left:
        resize = _resized_as_evaluator if convention == "evaluator" else _resized_as_demo
        mask[top:bottom, left:right] = resize(decoded, (right - left, bottom - top))
    return mask


def paste_masks(
    decoded: NDArray[np.floating[Any]],
    boxes: Sequence[Box],
    height: int,
    width: int,
    *,
    convention: Paste = "evaluator",
) -> Mask:
    """`paste_mask` of each [64, 64] and box into pictures of one size: bool [masks, height, width].

    Raises:
        InputError: as `paste_mask`, or there are not as many boxes as masks.
    """
    _check_counts(len(decoded), len(boxes))
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    for i, box in enumerate(boxes):
        masks[i] = paste_mask(decoded[i], box, height, width, convention=convention)
    return masks


def _checked(mask: Mask) -> Mask:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        what = f"{list(mask.shape)} of {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f"{what} is not a mask", hint="give bool [height, width], such as `array > 0`")
    return mask


def _check_counts(masks: int, boxes: int) -> None:
    if masks != boxes:
        raise InputError(f"{masks} masks but {boxes} boxes", hint="give one box for each mask")


def _runs_to_text(runs: Sequence[int]) -> str:
    """COCO's text: each run but the first three less the run of the same value before it, 5 bits a letter.

    The lowest bits come first; the sixth bit says that the number goes on, and the highest bit of its last
    letter is its sign.
    """
    letters = []
    for i, run in enumerate(runs):
        value, goes_on = run - runs[i - 2] if i > 2 else run, True
        while goes_on:
            digit, value = value & (_GOES_ON - 1), value >> _DIGIT_BITS
            goes_on = value != (-1 if digit & _IS_NEGATIVE else 0)
            letters.append(digit + (_GOES_ON if goes_on else 0) + _FIRST_SIGN)
    return bytes(letters).decode("ascii")


def _runs(counts: Any) -> list[int]:
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    return _text_to_runs(counts) if isinstance(counts, str) else [operator.index(run) for run in counts]


def _text_to_runs(text: str) -> list[int]:
    digits = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    digits -= _FIRST_SIGN
    if (wrong := np.flatnonzero((digits < 0) | (digits >= 2 * _GOES_ON))).size:
        raise InputError(f"{text[wrong[0]]!r} cannot stand in run lengths", hint="the annotation is damaged")
    ends = np.flatnonzero(digits < _GOES_ON)
    if text and (not ends.size or ends[-1] + 1 < len(text)):
        raise InputError("run lengths end within a number", hint="the annotation is cut short")
    lengths = np.diff(ends, prepend=-1)
    if (lengths > _MAX_LETTERS).any():
        raise InputError("a run is longer than any picture", hint="the annotation is damaged")
    starts = ends + 1 - lengths
    shifts = _DIGIT_BITS * (np.arange(len(text)) - np.repeat(starts, lengths))
    parts = (digits & (_GOES_ON - 1)) << shifts
    values = np.add.reduceat(parts, starts) if text else parts
    values -= np.where(digits[ends] & _IS_NEGATIVE, 1 << _DIGIT_BITS * lengths, 0)
    for first in (1, 2):  # all but the first three are differences from the run before the last
        values[first::2] = np.cumsum(values[first::2])
    runs: list[int] = values.tolist()
    return runs


def _pairs(offsets: NDArray[np.uint32]) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def _without_straight_points(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    is_straight: NDArray[np.bool_] = before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]
    return ring[~is_straight]


def _joined(outer: NDArray[np.float64], holes: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One ring: along the outer one, at the point nearest to a hole there and around it and back."""
    visits: dict[int, list[NDArray[np.float64]]] = {}
    for hole in holes:
        nearest = int(np.square(outer - hole[0]).sum(axis=1).argmin())
        visits.setdefault(nearest, []).append(hole)
    pieces, start = [], 0
    for at in sorted(visits):
        pieces.append(outer[start : at + 1])
        for hole in visits[at]:
            pieces += [hole, hole[:1], outer[at : at + 1]]
        start = at + 1
    return np.concatenate([*pieces, outer[start:]])


def _pixels_around(points: NDArray[np.float64], height: int, width: int) -> list[list[int]]:
    corners = np.stack([np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))])
    pixels: list[list[int]] = corners.clip(0, (width, height)).astype(np.int64).tolist()
    return pixels


def _points(polygon: Any) -> NDArray[np.float64]:
    numbers = np.asarray(polygon, dtype=np.float64).reshape(-1)
    if numbers.size < 6 or numbers.size % 2 or not (np.abs(numbers) < _FAR).all():
        raise InputError(
            f"{numbers.size} numbers are not a polygon", hint="give x and y, finite, of at least three points"
        )
    return numbers.reshape(-1, 2)


def _fill(points: NDArray[np.float64], height: int, width: int) -> Mask:
    """Even-odd filling: a pixel is inside when an odd number of edges crosses its row left of its centre."""
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = np.ceil(np.minimum(y, next_y) - 0.5).clip(0, height).astype(np.int64)
    end = np.ceil(np.maximum(y, next_y) - 0.5).clip(0, height).astype(np.int64)
    edge = np.repeat(np.arange(len(x)), end - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(end - first) - end, end - first)
    slope = (next_x - x)[edge] / (next_y - y)[edge]  # no edge along a row is among them
    crossing = x[edge] + (row + 0.5 - y[edge]) * slope
    column = np.ceil(crossing - 0.5).clip(0, width).astype(np.int64)
    counts = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(counts, (row, column), 1)
    is_inside: Mask = np.cumsum(counts[:, :width], axis=1) % 2 == 1
    return is_inside


def _corners(box: Box, height: int, width: int, *, is_rounded: bool) -> tuple[int, int, int, int]:
    """top, left, bottom, right in whole pixels, inside the picture."""
    fractions = np.array([box.y_min, box.x_min, box.y_max, box.x_max])
    if np.isnan(fractions).any():
        raise InputError("a box has a coordinate that is not a number", hint="give fractions from 0 to 1")
    pixels = fractions.clip(0, 1) * (height, width, height, width)
    # 45.9999999 is 46 with the noise of a division, and must not be cut to 45.
    whole = np.rint(pixels) if is_rounded else np.trunc(pixels + 1e-6)
    top, left, bottom, right = whole.astype(int).tolist()
    return top, left, bottom, right


def _resized_as_evaluator(decoded: NDArray[np.floating[Any]], size: tuple[int, int]) -> Mask:
    values = Image.fromarray(decoded.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(values) > 0


def _resized_as_demo(decoded: NDArray[np.floating[Any]], size: tuple[int, int]) -> Mask:
    grey = ((decoded * 0.5 + 0.5).clip(0, 1) * 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)) > 127
