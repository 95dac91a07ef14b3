"""The names that the same weights have in other files, as tables.

Our own names are Hugging Face's without the levels that changed over time (`normalise`). Hugging Face wrote
three layouts (legacy: the released files; nested: transformers 4.52 and later; new: 5.x); big_vision writes
one `.npz` whose arrays stack all layers.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model

KeyLayout: TypeAlias = Literal["legacy", "nested", "new"]
EMBEDDING = "language_model.embed_tokens.weight"

_NESTING = {
    "legacy": {"vision_tower.": "vision_tower.vision_model.", "language_model.": "language_model.model."},
    "nested": {
        "vision_tower.": "model.vision_tower.vision_model.",
        "language_model.": "model.language_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    "new": {
        "vision_tower.": "model.vision_tower.",
        "language_model.": "model.language_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
}


def normalise(name: str) -> str:
    """Our name of a tensor in any of Hugging Face's layouts; a name that is none of them stays as it is."""
    name = name.removeprefix("model.")
    if name.startswith("language_model.model."):
        return "language_model." + name.removeprefix("language_model.model.")
    if name.startswith("vision_tower.vision_model."):
        return "vision_tower." + name.removeprefix("vision_tower.vision_model.")
    return name


def is_head(name: str) -> bool:
    """Whether this is a stored copy of the output layer, which is the embedding (tied)."""
    return normalise(name) in ("lm_head.weight", "language_model.lm_head.weight")


def stored_name(name: str, layout: KeyLayout) -> str:
    """The name that our tensor `name` has in a Hugging Face file of this layout."""
    for prefix, longer in _NESTING[layout].items():
        if name.startswith(prefix):
            return longer + name.removeprefix(prefix)
    return name


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Our names and shapes of all tensors of a model, in the order of the model."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class StackedArray:
    """One array of a big_vision file: equal slices, each of which is one tensor of ours.

    Attributes:
        name: in the file, without `params/`.
        stack: leading axes, e.g. (layers,) or (layers, 2) or ().
        slice_shape: the axes of one slice.
        permutation: of the axes of a slice, after which a reshape gives our tensor.
        tensors: our name for each slice, in the order of the file.
    """

    name: str
    stack: tuple[int, ...]
    slice_shape: tuple[int, ...]
    permutation: tuple[int, ...]
    tensors: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return self.stack + self.slice_shape

    @property
    def slice_size(self) -> int:
        """Numbers in one slice."""
        return math.prod(self.slice_shape)

    def to_tensor(self, piece: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Our tensor of this shape from one slice of the file."""
        return piece.permute(self.permutation).reshape(shape)

    def from_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """One slice of the file, contiguous, from our tensor."""
        turned = tensor.reshape([self.slice_shape[axis] for axis in self.permutation])
        inverse = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return turned.permute(inverse).contiguous()


def big_vision_arrays(config: ModelConfig) -> tuple[StackedArray, ...]:
    """All arrays of a big_vision file (`models/vit.py`, `models/proj/gemma/gemma.py`, scan layout)."""
    return (*_image_arrays(config), *_text_arrays(config))


def _image_arrays(config: ModelConfig) -> list[StackedArray]:
    vision, text_width = config.vision, config.text.hidden_size
    width, patch = vision.hidden_size, vision.patch_size
    embeddings, norm, head = (
        "vision_tower.embeddings",
        "vision_tower.post_layernorm",
        "multi_modal_projector.linear",
    )

    def single(name: str, shape: tuple[int, ...], permutation: tuple[int, ...], tensor: str) -> StackedArray:
        return StackedArray(f"img/{name}", (), shape, permutation, (tensor,))

    kernel, positions = (patch, patch, vision.num_channels, width), (1, vision.num_image_tokens, width)
    return [
        single("embedding/kernel", kernel, (3, 2, 0, 1), f"{embeddings}.patch_embedding.weight"),
        single("embedding/bias", (width,), (0,), f"{embeddings}.patch_embedding.bias"),
        single("pos_embedding", positions, (0, 1, 2), f"{embeddings}.position_embedding.weight"),
        single("Transformer/encoder_norm/scale", (width,), (0,), f"{norm}.weight"),
        single("Transformer/encoder_norm/bias", (width,), (0,), f"{norm}.bias"),
        single("head/kernel", (width, text_width), (1, 0), f"{head}.weight"),
        single("head/bias", (text_width,), (0,), f"{head}.bias"),
        *_image_block_arrays(config),
    ]


def _image_block_arrays(config: ModelConfig) -> list[StackedArray]:
    vision = config.vision
    width, hidden = vision.hidden_size, vision.intermediate_size
    heads, head_dim = vision.num_heads, vision.hidden_size // vision.num_heads

    def stacked(name: str, shape: tuple[int, ...], permutation: tuple[int, ...], tensor: str) -> StackedArray:
        tensors = tuple(f"vision_tower.encoder.layers.{i}.{tensor}" for i in range(vision.num_layers))
        full = f"img/Transformer/encoderblock/{name}"
        return StackedArray(full, (vision.num_layers,), shape, permutation, tensors)

    attention = "MultiHeadDotProductAttention_0"
    arrays = [
        stacked("MlpBlock_0/Dense_0/kernel", (width, hidden), (1, 0), "mlp.fc1.weight"),
        stacked("MlpBlock_0/Dense_0/bias", (hidden,), (0,), "mlp.fc1.bias"),
        stacked("MlpBlock_0/Dense_1/kernel", (hidden, width), (1, 0), "mlp.fc2.weight"),
        stacked("MlpBlock_0/Dense_1/bias", (width,), (0,), "mlp.fc2.bias"),
        stacked(f"{attention}/out/kernel", (heads, head_dim, width), (2, 0, 1), "self_attn.out_proj.weight"),
        stacked(f"{attention}/out/bias", (width,), (0,), "self_attn.out_proj.bias"),
    ]
    for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        name, tensor = f"{attention}/{theirs}", f"self_attn.{ours}"
        arrays.append(stacked(f"{name}/kernel", (width, heads, head_dim), (1, 2, 0), f"{tensor}.weight"))
        arrays.append(stacked(f"{name}/bias", (heads, head_dim), (0, 1), f"{tensor}.bias"))
    for theirs, ours in (("LayerNorm_0", "layer_norm1"), ("LayerNorm_1", "layer_norm2")):
        arrays.append(stacked(f"{theirs}/scale", (width,), (0,), f"{ours}.weight"))
        arrays.append(stacked(f"{theirs}/bias", (width,), (0,), f"{ours}.bias"))
    return arrays


_TEXT_NORMS = {
    "pre_attention_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "pre_ffw_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _text_arrays(config: ModelConfig) -> list[StackedArray]:
    text = config.text
    width, hidden, head_dim = text.hidden_size, text.intermediate_size, text.head_dim

    def stacked(
        name: str, shape: tuple[int, ...], permutation: tuple[int, ...], *modules: str
    ) -> StackedArray:
        tensors = (f"language_model.layers.{i}.{m}.weight" for i in range(text.num_layers) for m in modules)
        stack = (text.num_layers, len(modules)) if len(modules) > 1 else (text.num_layers,)
        return StackedArray(f"llm/layers/{name}", stack, shape, permutation, tuple(tensors))

    q, k, v = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    query_shape, key_shape = (text.num_heads, width, head_dim), (text.num_kv_heads, width, head_dim)
    if text.num_heads == text.num_kv_heads:
        attention = [stacked("attn/qkv_einsum/w", query_shape, (0, 2, 1), q, k, v)]
    else:
        attention = [
            stacked("attn/q_einsum/w", query_shape, (0, 2, 1), q),
            stacked("attn/kv_einsum/w", key_shape, (0, 2, 1), k, v),
        ]
    rows = (config.num_text_rows, width)
    return [
        StackedArray("llm/embedder/input_embedding", (), rows, (0, 1), (EMBEDDING,)),
        StackedArray("llm/final_norm/scale", (), (width,), (0,), ("language_model.norm.weight",)),
        *attention,
        stacked("attn/attn_vec_einsum/w", (text.num_heads, head_dim, width), (2, 0, 1), "self_attn.o_proj"),
        stacked("mlp/gating_einsum", (width, hidden), (1, 0), "mlp.gate_proj", "mlp.up_proj"),
        stacked("mlp/linear", (hidden, width), (1, 0), "mlp.down_proj"),
        *(stacked(f"{theirs}/scale", (width,), (0,), ours) for theirs, ours in _TEXT_NORMS.items()),
    ]
