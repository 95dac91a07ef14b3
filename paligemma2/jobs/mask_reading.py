"""The mask codec for benchmarks and data sets: as functions on arrays, and for metrics that read masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.data.row_tasks import Codes, MaskCoding
from paligemma2.evaluation.score import ReadingMasks
from paligemma2.metrics.segmentation import segmentation_iou
from paligemma2.model.mask_codec import MaskCodec


def coding_of(codec: MaskCodec) -> MaskCoding:
    """A mask codec as two functions on arrays."""

    def encode(windows: NDArray[np.float32]) -> list[Codes]:
        with torch.inference_mode():
            return [tuple(codes) for codes in codec.encode(torch.from_numpy(windows)).tolist()]

    def decode(codes: Sequence[Codes]) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            return codec.decode(torch.tensor(codes)).numpy()

    return MaskCoding(encode=encode, decode=decode)


def reading_masks(source: str | Path) -> ReadingMasks:
    """Lets metrics that read masks decode them with a codec, which is read when this is called.

    Args:
        source: as of `load_mask_codec`.

    Raises:
        CheckpointError: no such file, or no codec.
    """
    codec = load_mask_codec(source).codec

    def decode(codes: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            masks: NDArray[np.float32] = codec.decode(torch.from_numpy(codes)).numpy()
            return masks

    return lambda metric: segmentation_iou(decode)
