"""Encoded pictures, kept so that a picture about which more is asked is not encoded again."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from paligemma2.model.lora import adapter_names, in_pieces_using
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import Piecewise

_Key: TypeAlias = tuple[bytes, str | None]
"""A digest of a picture, and the adapter if it changes the encoder."""

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
        self._kept: OrderedDict[_Key, Tensor] = OrderedDict()
        self._num_bytes = 0
        self._weights: list[tuple[int, int]] = []

    def encode(
        self,
        pixel_values: Tensor,
        image_index: Sequence[int] | None = None,
        adapters: Sequence[str | None] | None = None,
    ) -> Piecewise[Tensor]:
        """`PaliGemma2Model.encode_images` of the pictures that are not known yet, layer by layer.

        A picture is known to every adapter that leaves the encoder as it is, if it is known to one of them.

        Args:
            pixel_values: float32 [images, 3, height, width] in [-1, 1], on the CPU.
            image_index: which of the pictures are wanted, in order; by default each once.
            adapters: for each wanted picture the adapter that it goes through, or None.

        Returns:
            [wanted, num_image_tokens, width of the decoder].
        """
        self._forget_if_trained()
        wanted = range(len(pixel_values)) if image_index is None else image_index
        digests = [hashlib.blake2b(picture.contiguous().numpy()).digest() for picture in pixel_values]
        changing = adapter_names(self._model.vision_tower, self._model.multi_modal_projector)
        names = [name if name in changing else None for name in adapters or [None] * len(wanted)]
        keys = [(digests[place], name) for place, name in zip(wanted, names, strict=True)]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: place for key, place in zip(keys, wanted, strict=True) if key not in known}
        if missing:
            pictures, device = pixel_values[list(missing.values())], self._model.device
            work = self._model.encode_images_in_pieces(pictures.to(device))
            encoded = yield from in_pieces_using([name for _, name in missing], device, work)
            known |= zip(missing, encoded, strict=True)
        for key, tokens in known.items():
            self._keep(key, tokens)
        return torch.stack([known[key] for key in keys])

    def _keep(self, key: _Key, tokens: Tensor) -> None:
        if key not in self._kept:
            self._kept[key] = tokens.clone()  # a view would keep the whole batch
            self._num_bytes += tokens.nbytes
        self._kept.move_to_end(key)
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
