"""The image encoder: SigLIP-So400m/14 without pooling head (arXiv:2303.15343; big_vision `models/vit.py`).

Module names are Hugging Face's, so that a state dict is a checkpoint.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.errors import InputError
from paligemma2.model.config import Recomputation, VisionConfig
from paligemma2.model.piecewise import Piecewise, finish
from paligemma2.model.recomputation import run_block
from paligemma2.model.recomputed import product_dtype
from paligemma2.model.recomputed_attention import recomputed_attention


class SiglipEmbeddings(nn.Module):
    """Patches to vectors, plus learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        positions = torch.zeros(config.num_image_tokens, config.hidden_size)  # see `GemmaDecoder`
        self.position_embedding = nn.Embedding(config.num_image_tokens, config.hidden_size, _weight=positions)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[images, 3, height, width] in [-1, 1] to [images, patches, width], rows of patches from the top."""
        if pixel_values.shape[-2:] != (self.image_size, self.image_size):
            raise InputError(
                f"the image is {pixel_values.shape[-2]}×{pixel_values.shape[-1]} pixels, the model needs "
                f"{self.image_size}×{self.image_size}",
                hint="resize it with the checkpoint's own Processor",
            )
        positions: Tensor = self.position_embedding.weight
        return self._embedded(pixel_values.to(self.patch_embedding.weight.dtype)) + positions

    def _embedded(self, pixels: Tensor) -> Tensor:
        """The convolution as the product that it is, since its patches do not overlap.

        On CPUs with AMX oneDNN's convolution takes 100 MB for itself.
        """
        size = self.patch_embedding.kernel_size[0]
        images, channels, height, width = pixels.shape
        rows = pixels.reshape(images, channels, height // size, size, width // size, size)
        patches = rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return nn.functional.linear(
            patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias
        )


class SiglipAttention(nn.Module):
    """Multi-head attention, every patch sees every patch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.head_dim = config.hidden_size // config.num_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[images, patches, width] to the same shape."""
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [images, heads, patches, head_dim]
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        if torch.is_grad_enabled() and x.device.type == "cpu":
            # PyTorch's kernel takes three times as long on the way back.
            attended = recomputed_attention(q, k, v, None, scale=self.head_dim**-0.5, cap=None)
            return self.out_proj(attended)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class SiglipMLP(nn.Module):
    """Two linear layers with a tanh-approximated GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[images, patches, width] to the same shape."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SiglipLayer(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SiglipAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SiglipMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """[images, patches, width] to the same shape."""
        # Under autocast rounded here, once for all products that read it.
        x = x + self.self_attn(self.layer_norm1(x).to(product_dtype(x)))
        return x + self.mlp(self.layer_norm2(x).to(product_dtype(x)))


class SiglipLayers(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SiglipLayer(config) for _ in range(config.num_layers))


class SiglipEncoder(nn.Module):
    """Images to one vector per patch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.recomputation: Recomputation = "none"
        self.embeddings = SiglipEmbeddings(config)
        self.encoder = SiglipLayers(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[images, 3, height, width] in [-1, 1] to [images, patches, width]."""
        return finish(self.in_pieces(pixel_values))

    def in_pieces(self, pixel_values: Tensor) -> Piecewise[Tensor]:
        """`forward`, layer by layer."""
        x: Tensor = self.embeddings(pixel_values)
        for layer in self.encoder.layers:
            x = run_block(layer, self.recomputation, x)
            yield
        normalised: Tensor = self.post_layernorm(x)
        return normalised


def raise_resolution(positions: Tensor, grid_size: int) -> Tensor:
    """Position embeddings for a larger (or smaller) square grid of patches.

    Bilinear with aligned corners, which is what big_vision's `scipy.ndimage.zoom(order=1)` computes
    (`models/vit.py`, `resample_posemb`). Hugging Face's `interpolate_pos_encoding` is a different rule.

    Args:
        positions: [patches, width] of a square grid, rows from the top.
        grid_size: patches along one side of the new grid.

    Returns:
        [grid_size ** 2, width] in the dtype of `positions`.

    Raises:
        InputError: `positions` does not belong to a square grid.
    """
    old_size = round(positions.shape[0] ** 0.5)
    if old_size**2 != positions.shape[0]:
        raise InputError(
            f"{positions.shape[0]} position embeddings do not form a square grid",
            hint="give [patches, width] with patches = side ** 2",
        )
    grid = positions.float().view(old_size, old_size, -1).permute(2, 0, 1)[None]
    resized = F.interpolate(grid, size=(grid_size, grid_size), mode="bilinear", align_corners=True)
    return resized[0].flatten(1).T.to(positions.dtype).contiguous()
