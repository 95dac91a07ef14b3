"""What a frozen image encoder gives, kept, so that a picture that comes again is not encoded again."""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

from paligemma2.errors import ConfigError
from paligemma2.model.paligemma2 import PaliGemma2Model


class ImageCache:
    """Outputs of the image encoder by the pixels of the picture; those not used for longest leave first.

    They lie on the CPU: 1.2 MB for a picture of 256 tokens in float32. The projector is not part of them, so
    it may be trained.

    Args:
        capacity_bytes: of all outputs together.

    Raises:
        ConfigError: `capacity_bytes` is not positive.
    """

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes <= 0:
            raise ConfigError(f"a cache of {capacity_bytes} bytes", hint="give some, or leave the cache out")
        self.capacity_bytes = capacity_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def check(self, model: PaliGemma2Model) -> None:
        """Nothing, if the image encoder of the model is frozen.

        Raises:
            ConfigError: it is trained, so what it gives changes.
        """
        if any(parameter.requires_grad for parameter in model.vision_tower.parameters()):
            raise ConfigError(
                "the image encoder is trained, so its outputs cannot be kept",
                hint="freeze the image encoder, or do without the cache",
            )

    def encode(self, model: PaliGemma2Model, pixel_values: Tensor) -> Tensor:
        """Image tokens as `model.encode_images` gives them.

        Args:
            model: with a frozen image encoder, the same at every call.
            pixel_values: float32 [images, 3, height, width] on the CPU; each picture that is not kept goes
                through the encoder, once if it is there several times.

        Returns:
            [images, num_image_tokens, width of the decoder] on the device of the model.
        """
        keys = [hashlib.blake2b(picture.contiguous().numpy()).digest() for picture in pixel_values]
        missing = {key: place for place, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key not in missing}
        if missing:
            with torch.no_grad():
                encoded = model.vision_tower(pixel_values[list(missing.values())].to(model.device))
            found |= zip(missing, encoded.cpu(), strict=True)
        for key in keys:
            self._keep(key, found[key])
        outputs = torch.stack([found[key] for key in keys]).to(model.device)
        projected: Tensor = model.multi_modal_projector(outputs)
        return projected

    def _keep(self, key: bytes, output: Tensor) -> None:
        if key not in self._kept:
            self._kept[key] = output.clone()
            self._bytes += output.nbytes
        self._kept.move_to_end(key)
        while self._bytes > self.capacity_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
