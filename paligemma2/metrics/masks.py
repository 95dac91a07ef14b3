"""Scores of masks."""

from collections.abc import Sequence

import numpy as np

from paligemma2.errors import InputError
from paligemma2.metrics.detection import mean_overlap
from paligemma2.processing.masks import Mask
from paligemma2.types import Detection


def mask_iou(a: Mask, b: Mask) -> float:
    """Pixels that two masks share, over the pixels that they cover together: 0 (apart) to 1 (equal).

    Two empty masks have 0.

    Args:
        a: bool [height, width].
        b: of the same size.

    Raises:
        InputError: the masks are not bool, or of different sizes.
    """
    if a.shape != b.shape or a.dtype != np.bool_ or b.dtype != np.bool_:
        raise InputError(
            f"masks {list(a.shape)} of {a.dtype} and {list(b.shape)} of {b.dtype} cannot be compared",
            hint="give bool masks of one picture",
        )
    covered = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / covered if covered else 0.0


def mean_mask_iou(predicted: Sequence[Detection], expected: Sequence[Detection]) -> float:
    """Mean overlap of the masks of one picture, where a missing or an extra object counts as 0.

    Partners are chosen as by `metrics.detection.mean_box_iou`, by the IoU of their masks. An object without a
    mask overlaps nothing.

    Raises:
        InputError: two masks are of different sizes.
    """
    return mean_overlap(predicted, expected, _overlap)


def _overlap(a: Detection, b: Detection) -> float:
    return mask_iou(a.mask, b.mask) if a.mask is not None and b.mask is not None else 0.0
