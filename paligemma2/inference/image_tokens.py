"""Encoded pictures, kept so that a picture about which more is asked is not encoded again."""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import Piecewise

_KEPT_BYTES = 256 * 2**20
"""About 200 pictures of the 3B model at 224 px, or 12 at 896 px."""


class ImageTokens:
    """Encodes pictures and remembers those used last. A change of the weights of the encoder empties it.

    Args:
        model: whose encoder is used, in evaluation mode.
        kept_bytes: how much of the results is kept.
    """

    def __init__(self, model: PaliGemma2Model, kept_bytes: int = _KEPT_BYTES) -> None:
        self._model = model
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._num_bytes = 0
        self._weights: list[tuple[int, int]] = []

    def encode(self, pixel_values: Tensor) -> Piecewise[Tensor]:
        """`PaliGemma2Model.encode_images` of the pictures that are not known yet, layer by layer.

        Args:
            pixel_values: float32 [images, 3, height, width] in [-1, 1], on the CPU.

        Returns:
            [images, num_image_tokens, width of the decoder].
        """
        self._forget_if_trained()
        digests = [hashlib.blake2b(picture.contiguous().numpy()).digest() for picture in pixel_values]
        known = {digest: self._kept[digest] for digest in digests if digest in self._kept}
        missing = [digest for digest in dict.fromkeys(digests) if digest not in known]
        if missing:
            pictures = pixel_values[[digests.index(digest) for digest in missing]]
            encoded = yield from self._model.encode_images_in_pieces(pictures.to(self._model.device))
            known |= zip(missing, encoded, strict=True)
        for digest, tokens in known.items():
            self._keep(digest, tokens)
        return torch.stack([known[digest] for digest in digests])

    def _keep(self, digest: bytes, tokens: Tensor) -> None:
        if digest not in self._kept:
            self._kept[digest] = tokens.clone()  # a view would keep the whole batch
            self._num_bytes += tokens.nbytes
        self._kept.move_to_end(digest)
        while self._num_bytes > self._kept_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.nbytes

    def _forget_if_trained(self) -> None:
        parts = (self._model.vision_tower, self._model.multi_modal_projector)
        # Every change in place counts the version up; other memory is another tensor. Weights that were read
        # in inference mode have no version, and are not there to be trained.
        weights = [
            (each.data_ptr(), 0 if each.is_inference() else each._version)
            for part in parts
            for each in part.parameters()
        ]
        if weights != self._weights:
            self._kept.clear()
            self._num_bytes = 0
            self._weights = weights
