import json
import math
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.layouts import (
    EMBEDDING,
    KeyLayout,
    big_vision_arrays,
    expected_shapes,
    is_head,
    normalise,
    stored_name,
)
from paligemma2.model.config import PRESETS
from tests.checkpoint.small_checkpoints import small_config

LAYOUTS: tuple[KeyLayout, ...] = ("legacy", "nested", "new")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_normalises_back_to_our_names(layout: KeyLayout) -> None:
    names = list(expected_shapes(small_config()))
    stored = [stored_name(name, layout) for name in names]
    assert [normalise(name) for name in stored] == names
    assert len(set(stored)) == len(names)


def test_the_golden_name_lists_are_ours(golden_model: Path) -> None:
    old_to_new = json.loads((golden_model / "keys_old_to_new.json").read_text())
    for old, new in old_to_new.items():
        if is_head(old):
            assert is_head(new)
            continue
        assert normalise(old) == normalise(new)
        assert stored_name(normalise(old), "legacy") == old
        assert stored_name(normalise(old), "new") == new


@pytest.mark.parametrize("name", ["lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"])
def test_a_head_is_recognised_in_every_layout(name: str) -> None:
    assert is_head(name)


def test_an_unknown_name_is_left_alone() -> None:
    assert normalise("optimizer.state") == "optimizer.state"
    assert not is_head("language_model.norm.weight")


@pytest.mark.parametrize("name", ["paligemma2-3b-pt-224", "paligemma2-10b-pt-448", "paligemma2-28b-pt-896"])
def test_big_vision_arrays_hold_every_tensor_once(name: str) -> None:
    config = PRESETS[name]
    shapes, arrays = expected_shapes(config), big_vision_arrays(config)
    tensors = [tensor for array in arrays for tensor in array.tensors]
    assert sorted(tensors) == sorted(shapes)
    for array in arrays:
        assert math.prod(array.stack) == len(array.tensors)
        for tensor in set(array.tensors) - {EMBEDDING}:
            assert array.slice_size == math.prod(shapes[tensor])


def test_big_vision_names_and_shapes_of_the_3b_are_those_of_the_reference() -> None:
    shapes = {array.name: array.shape for array in big_vision_arrays(PRESETS["paligemma2-3b-pt-224"])}
    attention = "img/Transformer/encoderblock/MultiHeadDotProductAttention_0"
    expected = {
        "img/embedding/kernel": (14, 14, 3, 1152),
        "img/pos_embedding": (1, 256, 1152),
        "img/head/kernel": (1152, 2304),
        "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel": (27, 1152, 4304),
        f"{attention}/query/kernel": (27, 1152, 16, 72),
        f"{attention}/query/bias": (27, 16, 72),
        f"{attention}/out/kernel": (27, 16, 72, 1152),
        "llm/embedder/input_embedding": (257152, 2304),
        "llm/layers/attn/q_einsum/w": (26, 8, 2304, 256),
        "llm/layers/attn/kv_einsum/w": (26, 2, 4, 2304, 256),
        "llm/layers/attn/attn_vec_einsum/w": (26, 8, 256, 2304),
        "llm/layers/mlp/gating_einsum": (26, 2, 2304, 9216),
        "llm/layers/mlp/linear": (26, 9216, 2304),
        "llm/layers/pre_ffw_norm/scale": (26, 2304),
    }
    assert expected.items() <= shapes.items()


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_a_slice_and_its_tensor_are_inverses(kv_heads: int) -> None:
    config = small_config(num_kv_heads=kv_heads)
    shapes = expected_shapes(config)
    for array in big_vision_arrays(config):
        piece = torch.randn(array.slice_shape)
        shape = (array.slice_shape) if array.tensors[0] == EMBEDDING else shapes[array.tensors[0]]
        assert torch.equal(array.from_tensor(array.to_tensor(piece, shape)), piece), array.name


def test_a_query_kernel_computes_what_big_vision_computes() -> None:
    config = small_config()
    array = next(a for a in big_vision_arrays(config) if a.name == "llm/layers/attn/q_einsum/w")
    piece, x = torch.randn(array.slice_shape), torch.randn(5, config.text.hidden_size)
    weight = array.to_tensor(piece, expected_shapes(config)[array.tensors[0]])
    theirs = torch.einsum("td,hdk->thk", x, piece)
    assert torch.allclose((x @ weight.T).view_as(theirs), theirs, atol=1e-5)


def test_an_output_kernel_computes_what_big_vision_computes() -> None:
    config = small_config()
    array = next(a for a in big_vision_arrays(config) if a.name == "llm/layers/attn/attn_vec_einsum/w")
    piece = torch.randn(array.slice_shape)
    x = torch.randn(5, config.text.num_heads, config.text.head_dim)
    weight = array.to_tensor(piece, expected_shapes(config)[array.tensors[0]])
    assert torch.allclose(x.flatten(1) @ weight.T, torch.einsum("thk,hkd->td", x, piece), atol=1e-4)
