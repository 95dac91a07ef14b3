"""A mask codec as the layer of data uses it, without tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paligemma2.checkpoint.mask_codec_files import LoadedMaskCodec
from paligemma2.data.row_tasks import Codes, MaskCoding


def coding_of(loaded: LoadedMaskCodec) -> MaskCoding:
    """Masks to codes and back with this codec."""

    def encode(windows: NDArray[np.float32]) -> list[Codes]:
        with torch.inference_mode():
            return [tuple(codes) for codes in loaded.codec.encode(torch.from_numpy(windows)).tolist()]

    def decode(codes: Sequence[Codes]) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            return loaded.codec.decode(torch.tensor(codes)).numpy()

    return MaskCoding(encode=encode, decode=decode)
