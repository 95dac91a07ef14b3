"""Sizes and constants of the model, and the named variants of the PaliGemma 2 model card."""

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from paligemma2.errors import ConfigError

NUM_LOCATION_TOKENS = 1024
NUM_MASK_TOKENS = 128
Recomputation: TypeAlias = Literal["none", "selective", "full"]
"""What a block computes again in training: nothing, all but the products with weights, or everything."""


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{name} is {value}; it must be positive", hint="correct config.json")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The image encoder: SigLIP-So400m/14 by default (arXiv:2303.15343; big_vision `models/vit.py`)."""

    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3
    hidden_size: int = 1152
    num_layers: int = 27
    num_heads: int = 16
    intermediate_size: int = 4304
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "image_size",
            "patch_size",
            "num_channels",
            "hidden_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
            "layer_norm_eps",
        )
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
                hint="correct vision_config in config.json",
            )
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"vision hidden_size {self.hidden_size} does not divide into {self.num_heads} heads",
                hint="correct vision_config in config.json",
            )

    @property
    def grid_size(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def num_image_tokens(self) -> int:
        """Tokens per image: 256, 1024 or 4096 for 224, 448 or 896 px."""
        return self.grid_size**2


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The decoder: Gemma 2 (arXiv:2408.00118; big_vision `models/proj/gemma/gemma.py`).

    Fields that differ between the two reference implementations are explicit:

    Attributes:
        attention_cap: soft-cap on attention logits (50.0), None = off.
        final_cap: soft-cap on output logits (30.0), None = off. big_vision's transfers train without it.
        sliding_window: keys that a suffix token sees on sliding layers, itself included; None = no window
            (big_vision), 4096 (Hugging Face).
        sliding_layers: for each layer whether the window applies; Hugging Face: even layers.
        query_pre_attn_scalar: queries are multiplied by this ** -0.5; not always `head_dim`.
        embedding_scale: factor on text embeddings; None = sqrt(hidden_size).
        round_embedding_scale: round that factor to the dtype of the weights first (Hugging Face), which
            in bfloat16 changes it by up to 0.2 %; False multiplies in float32 (big_vision's training).
    """

    vocab_size: int = 257216
    hidden_size: int = 2304
    num_layers: int = 26
    num_heads: int = 8
    num_kv_heads: int = 4
    head_dim: int = 256
    intermediate_size: int = 9216
    query_pre_attn_scalar: float = 256.0
    attention_cap: float | None = 50.0
    final_cap: float | None = 30.0
    sliding_window: int | None = 4096
    sliding_layers: tuple[bool, ...] = ()
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    embedding_scale: float | None = None
    round_embedding_scale: bool = True
    max_positions: int = 8192

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "intermediate_size",
            "query_pre_attn_scalar",
            "rope_theta",
            "rms_norm_eps",
            "max_positions",
        )
        if not self.sliding_layers:
            object.__setattr__(self, "sliding_layers", tuple(i % 2 == 0 for i in range(self.num_layers)))
        if len(self.sliding_layers) != self.num_layers:
            raise ConfigError(
                f"layer_types names {len(self.sliding_layers)} layers, the decoder has {self.num_layers}",
                hint="correct text_config in config.json",
            )
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"{self.num_heads} query heads do not divide into {self.num_kv_heads} key-value heads",
                hint="correct text_config in config.json",
            )
        if self.head_dim % 2:
            raise ConfigError(
                f"head_dim {self.head_dim} is odd; rotary positions need pairs",
                hint="correct text_config in config.json",
            )
        for name in ("attention_cap", "final_cap", "sliding_window", "embedding_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be positive", hint="use null to turn it off")

    @property
    def scale(self) -> float:
        """Factor on text embeddings before any rounding."""
        return math.sqrt(self.hidden_size) if self.embedding_scale is None else self.embedding_scale

    def window_of_layer(self, layer: int) -> int | None:
        """The sliding window of this layer, None where it sees everything."""
        return self.sliding_window if self.sliding_layers[layer] else None


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole model: image encoder, linear projector, decoder, and the ids that join them."""

    vision: VisionConfig
    text: TextConfig
    image_token_id: int = 257152
    pad_token_id: int = 0
    eos_token_id: int = 1
    bos_token_id: int = 2

    def __post_init__(self) -> None:
        _check_positive(self, "image_token_id")
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            if not 0 <= getattr(self, name) < self.num_text_rows:
                raise ConfigError(
                    f"{name} {getattr(self, name)} is outside 0..{self.num_text_rows - 1}",
                    hint="correct config.json",
                )

    @property
    def num_image_tokens(self) -> int:
        """Tokens per image, always derived from the image and patch size."""
        return self.vision.num_image_tokens

    @property
    def num_text_rows(self) -> int:
        """Rows of the embedding that may be produced: not `<image>`, not the filler rows behind it."""
        return min(self.image_token_id, self.text.vocab_size)

    @property
    def location_rows(self) -> slice:
        """Rows of the embedding that are location tokens."""
        first_mask = self.image_token_id - NUM_MASK_TOKENS
        return slice(first_mask - NUM_LOCATION_TOKENS, first_mask)


_TEXT = {
    "3b": TextConfig(),
    "10b": TextConfig(hidden_size=3584, num_layers=42, num_heads=16, num_kv_heads=8, intermediate_size=14336),
    "28b": TextConfig(
        hidden_size=4608,
        num_layers=46,
        num_heads=32,
        num_kv_heads=16,
        head_dim=128,
        intermediate_size=36864,
        query_pre_attn_scalar=144.0,
    ),
}
_TINY_VOCABULARY = 1710
_TINY = ModelConfig(
    vision=VisionConfig(image_size=112, hidden_size=160, num_layers=6, num_heads=5, intermediate_size=640),
    text=TextConfig(
        vocab_size=_TINY_VOCABULARY,
        hidden_size=160,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=40,
        intermediate_size=480,
        query_pre_attn_scalar=40.0,
        max_positions=1024,
    ),
    image_token_id=_TINY_VOCABULARY - 1,
)
SIZES = tuple(_TEXT)
RESOLUTIONS = (224, 448, 896)


def _presets() -> dict[str, ModelConfig]:
    presets = {"tiny": _TINY}
    for kind, resolutions in (("pt", RESOLUTIONS), ("mix", (224, 448))):
        for size, text in _TEXT.items():
            for resolution in resolutions:
                name = f"paligemma2-{size}-{kind}-{resolution}"
                presets[name] = ModelConfig(vision=VisionConfig(image_size=resolution), text=text)
    return presets


PRESETS = _presets()


def preset(name: str) -> ModelConfig:
    """The configuration of a model named as on the card, e.g. `paligemma2-10b-pt-448`.

    Raises:
        ConfigError: no variant has this name; the nearest is suggested.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
    raise ConfigError(f"no model is named {name!r}", hint=hint)


def variant_name(config: ModelConfig) -> str:
    """The size and resolution in the card's words (`3b-224`), or the plain sizes of another model."""
    sizes = {"tiny": _TINY} | {size: PRESETS[f"paligemma2-{size}-pt-224"] for size in SIZES}
    for size, known in sizes.items():
        tower = dataclasses.replace(known.vision, image_size=config.vision.image_size)
        if _widths(known.text) == _widths(config.text) and tower == config.vision:
            return f"{size}-{config.vision.image_size}"
    return (
        f"custom-{config.vision.image_size} (encoder {config.vision.num_layers}×{config.vision.hidden_size}, "
        f"decoder {config.text.num_layers}×{config.text.hidden_size})"
    )


def _widths(text: TextConfig) -> tuple[int, ...]:
    return (
        text.hidden_size,
        text.num_layers,
        text.num_heads,
        text.num_kv_heads,
        text.head_dim,
        text.intermediate_size,
    )
