"""Masks of referred objects: RefCOCO, RefCOCO+ and RefCOCOg.

The rule is big_vision's `transfers/segmentation.py`; the data sets have no script. An answer is 4 location
and 16 mask tokens. Metrics do not know the mask codec, so that `segmentation_iou` makes the metric from a
decoder:

    metric = segmentation_iou(decode_masks)
    metric(predictions, references)

A reference has its mask in `meta`, as `mask_meta` makes it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paligemma2.errors import DataError, InputError
from paligemma2.metrics.scores import Metric, Reference, Scores, scored
from paligemma2.processing.masks import Mask, mask_box, mask_to_rle, rle_to_mask

MaskDecoder: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""From codes, int64 [masks, 16] of 0 to 127, to float32 [masks, 64, 64], about -1 (outside) to 1 (inside)."""

BOX_IOUS = (0.5, 0.75)
"""The overlaps from which on a box is right."""

_NUM_CODES, _LAST_LOCATION, _LAST_CODE = 16, 1023, 127
_ANSWER = re.compile(rf"(?:<loc[0-9]{{4}}>){{4}}(?:<seg[0-9]{{3}}>){{{_NUM_CODES}}}")
_NUMBER = re.compile(r"[0-9]+")
_DECODED_AT_ONCE = 256
_Corners: TypeAlias = tuple[float, float, float, float]  # y_min, x_min, y_max, x_max as fractions


@dataclass(frozen=True, kw_only=True)
class MaskAnswer:
    """A box and the codes of the mask in it.

    Attributes:
        locations: y_min, x_min, y_max, x_max from 0 to 1023.
        codes: 16 of 0 to 127.
    """

    locations: tuple[int, int, int, int]
    codes: tuple[int, ...]

    @property
    def corners(self) -> _Corners:
        """The box in fractions of the picture."""
        y_min, x_min, y_max, x_max = (location / _LAST_LOCATION for location in self.locations)
        return y_min, x_min, y_max, x_max


def mask_meta(mask: Mask, box: Sequence[float] | None = None) -> dict[str, Any]:
    """What `Reference.meta` must have: `mask` as COCO's run lengths, and `box` where it is not the mask's
    own.

    Args:
        mask: bool [height, width] of the whole picture.
        box: y_min, x_min, y_max, x_max as fractions of the picture, as annotated.

    Raises:
        InputError: the mask is not bool [height, width].
    """
    return {"mask": mask_to_rle(mask)} | ({} if box is None else {"box": list(box)})


def parse_mask_answer(text: str) -> MaskAnswer | None:
    """The first 20 tokens of an answer; None unless they are 4 locations that make a box, and 16 mask tokens.

    What follows them does not matter.
    """
    found = _ANSWER.match(text)
    if not found:
        return None
    numbers = [int(number) for number in _NUMBER.findall(found[0])]
    y_min, x_min, y_max, x_max, *codes = numbers
    is_box = y_min < y_max <= _LAST_LOCATION and x_min < x_max <= _LAST_LOCATION
    if not is_box or max(codes) > _LAST_CODE:
        return None
    return MaskAnswer(locations=(y_min, x_min, y_max, x_max), codes=tuple(codes))


def segmentation_iou(decode_masks: MaskDecoder) -> Metric:
    """`SEGMENTATION_IOU` with what it needs to read masks."""
    return replace(SEGMENTATION_IOU, paligemma=partial(expression_iou, decode_masks=decode_masks))


def expression_iou(
    predictions: Sequence[str], references: Sequence[Reference], *, decode_masks: MaskDecoder
) -> Scores:
    """The overlap of each predicted mask with the right one, 0 to 1, on the pixels of the whole picture.

    The decoded mask is resized bilinearly to the box, whose corners lose their fractions of pixels, and is
    inside where it is above 0. An answer that is no box with a mask, or whose box has no pixel, has 0; so
    have two empty masks.

    Args:
        predictions: what the model wrote.
        references: of each prediction; `meta` as by `mask_meta`.
        decode_masks: of the mask codec.

    Returns:
        Scores with the parts "boxacc/0.5" and "boxacc/0.75", the shares of boxes that overlap the right one
        at least so much, and "invalid", the share of answers without a mask.

    Raises:
        DataError: a reference has no mask.
        InputError: its run lengths are damaged.
    """
    answers = [parse_mask_answer(prediction) for prediction in predictions]
    windows = _decoded(answers, decode_masks)
    values, overlaps, num_invalid = [], [], 0
    for answer, reference in zip(answers, references, strict=True):
        truth = _mask(reference)
        pixels = None if answer is None else _pixels(answer.corners, *truth.shape)
        window = None if answer is None else next(windows)
        overlaps.append(0.0 if answer is None else _box_iou(answer.corners, _box(reference, truth)))
        if window is None or pixels is None:
            num_invalid += 1
            values.append(0.0)
        else:
            values.append(_mask_iou(window, pixels, truth))
    parts = {
        f"boxacc/{least}": sum(overlap >= least for overlap in overlaps) / len(overlaps) for least in BOX_IOUS
    }
    return scored(values, parts=parts | {"invalid": num_invalid / len(values)})


def _needs_decoder(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    raise InputError(
        f"{len(predictions)} answers have mask tokens, and nothing decodes them",
        hint="make the metric with `metrics.segmentation.segmentation_iou(decode_masks)`",
    )


def _decoded(
    answers: Sequence[MaskAnswer | None], decode_masks: MaskDecoder
) -> Iterator[NDArray[np.float32]]:
    """[64, 64] of each answer that has codes, in order; decoded some at a time, for memory."""
    codes = [answer.codes for answer in answers if answer is not None]
    for start in range(0, len(codes), _DECODED_AT_ONCE):
        yield from decode_masks(np.array(codes[start : start + _DECODED_AT_ONCE], dtype=np.int64))


def _mask(reference: Reference) -> Mask:
    mask: Mapping[str, Any] | None = reference.meta.get("mask")
    if mask is None:
        raise DataError(
            f"a reference has no mask, only {sorted(reference.meta)}",
            hint="give it in `meta`, as `metrics.segmentation.mask_meta` makes it",
        )
    return rle_to_mask(mask)


def _box(reference: Reference, mask: Mask) -> _Corners:
    if "box" in reference.meta:
        y_min, x_min, y_max, x_max = reference.meta["box"]
        return y_min, x_min, y_max, x_max
    box = mask_box(mask)
    return (box.y_min, box.x_min, box.y_max, box.x_max) if box else (0.0, 0.0, 0.0, 0.0)


def _pixels(corners: _Corners, height: int, width: int) -> tuple[int, int, int, int] | None:
    """top, left, bottom, right; None if there is no pixel between them."""
    y_min, x_min, y_max, x_max = corners
    top, left, bottom, right = (
        int(y_min * height),
        int(x_min * width),
        int(y_max * height),
        int(x_max * width),
    )
    return (top, left, bottom, right) if bottom > top and right > left else None


def _mask_iou(window: NDArray[np.float32], pixels: tuple[int, int, int, int], truth: Mask) -> float:
    top, left, bottom, right = pixels
    resized = Image.fromarray(window).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    inside = np.asarray(resized) > 0
    shared = np.count_nonzero(truth[top:bottom, left:right] & inside)
    covered = np.count_nonzero(truth) + np.count_nonzero(inside) - shared
    return shared / covered if covered else 0.0


def _box_iou(a: _Corners, b: _Corners) -> float:
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    covered = _area(a) + _area(b) - shared
    return shared / covered if covered > 0 else 0.0


def _area(corners: _Corners) -> float:
    y_min, x_min, y_max, x_max = corners
    return max(x_max - x_min, 0.0) * max(y_max - y_min, 0.0)


SEGMENTATION_IOU = Metric(
    name="mean IoU",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/segmentation.py",
    paligemma=_needs_decoder,
    reads_masks=True,
)
"""The mean over expressions. It cannot score by itself: `segmentation_iou` gives it a decoder."""
