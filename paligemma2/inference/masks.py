"""Masks of whole pictures from the mask tokens of objects."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from paligemma2.model.mask_codec import MaskCodec
from paligemma2.processing.masks import Paste, paste_mask
from paligemma2.types import Detection

_BATCH = 256


@torch.inference_mode()
def with_masks(
    detections: Sequence[Detection],
    codec: MaskCodec,
    height: int,
    width: int,
    *,
    convention: Paste = "evaluator",
) -> tuple[Detection, ...]:
    """The same objects, with the masks that their codes mean; without codes there is no mask.

    Args:
        detections: of one picture.
        codec: the one whose codes the model writes; see `checkpoint.mask_codec_files.check_mask_codec`.
        height: of the picture in pixels.
        width: of the picture in pixels.
        convention: see `processing.masks.paste_mask`.
    """
    found = list(detections)
    coded = [place for place, each in enumerate(found) if each.codes]
    device = next(codec.parameters()).device
    for start in range(0, len(coded), _BATCH):
        places = coded[start : start + _BATCH]
        codes = torch.tensor([found[place].codes for place in places], device=device)
        decoded = codec.decode(codes).float().cpu().numpy()
        for place, window in zip(places, decoded, strict=True):
            mask = paste_mask(window, found[place].box, height, width, convention=convention)
            found[place] = replace(found[place], mask=mask)
    return tuple(found)
