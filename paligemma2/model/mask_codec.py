"""The mask codec: a 64 × 64 mask as 16 codes of 128, and back (VQ-VAE, arXiv:1711.00937).

The architecture is that of big_vision's `vae-oid.npz`, from which the mask tokens of PaliGemma come; module
names are the file's, so that its arrays are a state dict. Encoder widths and kernels are inferred from the
size of that file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from paligemma2.errors import ConfigError, InputError
from paligemma2.model.config import NUM_MASK_TOKENS

MASK_SIZE = 64
GRID_SIZE = 4
CODES_PER_MASK = GRID_SIZE**2

_WIDTHS = (16, 32, 64, 128)
_WIDTH = _WIDTHS[-1]


@dataclass(frozen=True, kw_only=True)
class MaskCodecConfig:
    """What may differ between two codecs.

    Attributes:
        embedding_size: numbers per row of the codebook; 512 in the official codec.
    """

    embedding_size: int = 512

    def __post_init__(self) -> None:
        if self.embedding_size < 1:
            raise ConfigError(
                f"embedding_size is {self.embedding_size}", hint="give a number above zero; 512 is official"
            )


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a 1 × 1 one, added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, 4, 4] to the same shape."""
        return x + self.net(x)


class Codebook(nn.Module):
    """The 128 vectors that a cell of the grid may stand for."""

    def __init__(self, config: MaskCodecConfig) -> None:
        super().__init__()
        self._embedding = nn.Parameter(torch.randn(NUM_MASK_TOKENS, config.embedding_size))

    @property
    def vectors(self) -> nn.Parameter:
        """Float [codes, embedding]."""
        return self._embedding

    def nearest(self, cells: Tensor) -> Tensor:
        """The codes whose vectors are nearest (squared distance).

        Args:
            cells: float [batch, embedding, 4, 4].

        Returns:
            int64 [batch, 16], rows of the grid from the top.
        """
        points = cells.flatten(2).transpose(1, 2)  # [batch, 16, embedding]
        vectors = self._embedding
        # The square of the point itself is the same for all codes.
        distances = vectors.square().sum(dim=1) - 2 * (points @ vectors.T)
        return distances.argmin(dim=-1)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 [batch, 16] to float [batch, embedding, 4, 4]."""
        vectors = self._embedding[codes].transpose(1, 2)  # [batch, embedding, 16]
        return vectors.reshape(*vectors.shape[:2], GRID_SIZE, GRID_SIZE)


class MaskCodec(nn.Module):
    """Masks to codes and back.

    Args:
        config: the size of the codebook's vectors.
    """

    def __init__(self, config: MaskCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config.embedding_size)
        self._vq_vae = Codebook(config)
        self.decoder = _decoder(config.embedding_size)

    @property
    def codebook(self) -> Codebook:
        """The vectors of the codes."""
        return self._vq_vae

    def cells(self, masks: Tensor) -> Tensor:
        """The encoder's output before it is rounded to codes, float [batch, embedding, 4, 4].

        Args:
            masks: float [batch, 64, 64] or [batch, 1, 64, 64] from 0 (outside) to 1 (inside).

        Raises:
            InputError: another shape or type.
        """
        if masks.dim() == 3:
            masks = masks[:, None]
        if masks.shape[1:] != (1, MASK_SIZE, MASK_SIZE) or not masks.is_floating_point():
            raise InputError(
                f"the masks are {masks.dtype} {list(masks.shape)}, the codec needs floats [batch, 64, 64]",
                hint="cut each mask to its box, resize it to 64 × 64 and scale it to 0..1",
            )
        return self.encoder(2 * (masks - 0.5))

    def encode(self, masks: Tensor) -> Tensor:
        """The codes of masks.

        Args:
            masks: float [batch, 64, 64] or [batch, 1, 64, 64] from 0 (outside) to 1 (inside).

        Returns:
            int64 [batch, 16] in 0..127, rows of the 4 × 4 grid from the top.

        Raises:
            InputError: another shape or type.
        """
        return self.codebook.nearest(self.cells(masks))

    def decode(self, codes: Tensor) -> Tensor:
        """The masks of codes.

        Args:
            codes: integers [batch, 16] in 0..127, rows of the 4 × 4 grid from the top.

        Returns:
            float [batch, 64, 64], about -1 (outside) to 1 (inside); above 0 counts as inside.

        Raises:
            InputError: another shape, or a code out of range.
        """
        if codes.dim() != 2 or codes.shape[1] != CODES_PER_MASK or codes.is_floating_point():
            raise InputError(
                f"the codes are {codes.dtype} {list(codes.shape)}, the codec needs integers [batch, 16]",
                hint="give the 16 numbers of the <seg…> tokens of each mask",
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < NUM_MASK_TOKENS:
            wrong = codes[(codes < 0) | (codes >= NUM_MASK_TOKENS)][0].item()
            raise InputError(f"there is no mask code {wrong}", hint="codes go from 0 to 127")
        return self.decoder(self.codebook(codes))[:, 0]


def set_memory_format(codec: MaskCodec, memory_format: torch.memory_format) -> None:
    """Lay out the weights anew; `torch.channels_last` is a fifth faster on a CPU."""
    codec.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs do not know it


@torch.inference_mode()
def encode_masks(
    codec: MaskCodec, masks: Sequence[npt.NDArray[np.uint8] | npt.NDArray[np.bool_]]
) -> list[tuple[int, ...]]:
    """The 16 codes of each mask, for a worker that makes training data.

    Args:
        codec: on any device.
        masks: each [64, 64], the inside of its box: bool, or uint8 from 0 to 255.

    Raises:
        InputError: a mask of another shape or type.
    """
    for mask in masks:
        if mask.shape != (MASK_SIZE, MASK_SIZE) or mask.dtype not in (np.uint8, np.bool_):
            raise InputError(
                f"a mask is {mask.dtype} {list(mask.shape)}, the codec needs uint8 or bool [64, 64]",
                hint="cut the mask to its box and resize it to 64 × 64",
            )
    if not masks:
        return []
    full = [mask * np.uint8(255) if mask.dtype == np.bool_ else mask for mask in masks]
    vectors = codec.codebook.vectors
    pixels = torch.from_numpy(np.stack(full)).to(device=vectors.device, dtype=vectors.dtype) / 255
    return [tuple(codes) for codes in codec.encode(pixels).tolist()]


def _encoder(embedding_size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in zip((1, *_WIDTHS), _WIDTHS, strict=False):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, ResidualBlock(), ResidualBlock(), nn.Conv2d(_WIDTH, embedding_size, 1))


def _decoder(embedding_size: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(embedding_size, _WIDTH, 1),
        nn.ReLU(),
        ResidualBlock(),
        ResidualBlock(),
    ]
    widths = tuple(reversed(_WIDTHS))
    for wide, narrow in zip((_WIDTH, *widths), widths, strict=False):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(_WIDTHS[0], 1, 1))
