"""Small random models for the tests of `paligemma2.model`, and reading the stored reference model."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from paligemma2.checkpoint.config_json import config_from_json
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def fill(model: nn.Module, seed: int, attention_gain: float = 2.5) -> None:
    """Random weights, strong enough in q and k that a wrong mask, cap or scale shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if re.search(r"(layer_norm\d|post_layernorm)\.weight$", name) and "vision_tower" in name:
            noise = 1 + 0.2 * noise
        elif name.endswith("language_model.norm.weight"):
            noise = noise - 1  # signs of both kinds, or the tied head would repeat the last token for ever
        elif name.endswith(("norm.weight", "position_embedding.weight")):
            noise = 0.2 * noise
        elif name.endswith("bias"):
            noise = 0.1 * noise
        elif "embed_tokens" in name:
            noise = 0.3 * noise
        elif "language_model" in name and re.search(r"[qk]_proj", name):
            noise = noise * attention_gain * parameter.shape[-1] ** -0.5
        else:
            noise = noise * parameter[0].numel() ** -0.5
        parameter.copy_(noise)


def normalised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names, from either Hugging Face layout, without the tied head."""
    renamed = {}
    for name, tensor in tensors.items():
        if "lm_head" in name:
            continue
        name = name.removeprefix("model.").replace("language_model.model.", "language_model.")
        renamed[name.replace("vision_model.", "")] = tensor.float()
    return renamed


SMALL = ModelConfig(
    vision=VisionConfig(
        image_size=28, patch_size=14, hidden_size=24, num_layers=2, num_heads=2, intermediate_size=40
    ),
    text=TextConfig(
        vocab_size=160,
        hidden_size=32,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=12,
        intermediate_size=48,
        query_pre_attn_scalar=9.0,
        attention_cap=20.0,
        final_cap=15.0,
        sliding_window=None,
    ),
    image_token_id=150,
)


@pytest.fixture
def small_model() -> Callable[..., PaliGemma2Model]:
    """A function that builds a model of four image tokens; keywords replace fields of its TextConfig."""

    def build(seed: int = 0, **text: Any) -> PaliGemma2Model:
        config = dataclasses.replace(SMALL, text=dataclasses.replace(SMALL.text, **text))
        model = PaliGemma2Model(config).eval()
        fill(model, seed)
        return model

    return build


@dataclasses.dataclass(frozen=True)
class Reference:
    """A random `transformers` model, ours with the same weights, and random inputs."""

    theirs: Any
    config: ModelConfig
    weights: dict[str, Tensor]
    pixel_values: Tensor
    prompts: list[list[int]]
    suffixes: list[list[int]]

    def ours(self, **text: Any) -> PaliGemma2Model:
        config = dataclasses.replace(self.config, text=dataclasses.replace(self.config.text, **text))
        model = PaliGemma2Model(config).eval()
        model.load_state_dict(self.weights, strict=True)
        return model

    def prompt_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Left-padded ids, which are valid, which are suffix (none), [batch, seq]."""
        is_valid = padded([[1] * len(row) for row in self.prompts], left=True).bool()
        return padded(self.prompts, left=True), is_valid, torch.zeros_like(is_valid)

    def train_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Right-padded ids, which are valid, which are suffix, [batch, seq]."""
        pairs = list(zip(self.prompts, self.suffixes, strict=True))
        ids = padded([prompt + suffix for prompt, suffix in pairs], left=False)
        is_valid = padded([[1] * len(prompt + suffix) for prompt, suffix in pairs], left=False)
        is_suffix = padded([[0] * len(prompt) + [1] * len(suffix) for prompt, suffix in pairs], left=False)
        return ids, is_valid.bool(), is_suffix.bool()

    def their_logits(self, ids: Tensor, is_valid: Tensor, is_suffix: Tensor) -> Tensor:
        logits: Tensor = self.theirs(
            input_ids=ids,
            pixel_values=self.pixel_values,
            attention_mask=is_valid.long(),
            token_type_ids=is_suffix.long(),  # without them transformers is silently causal
            position_ids=is_valid.long().cumsum(-1).clamp(min=1),
            use_cache=False,
        ).logits
        return logits


def padded(rows: list[list[int]], *, left: bool, value: int = 0) -> Tensor:
    seq = max(map(len, rows))
    fill = [[value] * (seq - len(row)) for row in rows]
    return torch.tensor([pad + row if left else row + pad for row, pad in zip(rows, fill, strict=True)])


@pytest.fixture
def pad() -> Callable[..., Tensor]:
    """`padded`: rows of numbers to one tensor, `left` or right."""
    return padded


def random_config(rng: random.Random) -> ModelConfig:
    head_dim = rng.choice([6, 8, 10, 16])
    num_kv_heads = rng.choice([1, 2, 3])
    num_heads = num_kv_heads * rng.choice([1, 2, 4])
    patch_size = rng.choice([3, 4, 7])
    vision_heads = rng.choice([2, 3])
    layers = rng.choice([3, 4, 5])
    vocab_size = rng.choice([97, 130])
    return ModelConfig(
        vision=VisionConfig(
            image_size=patch_size * rng.choice([2, 3]),
            patch_size=patch_size,
            hidden_size=vision_heads * rng.choice([6, 10]),
            num_layers=rng.choice([1, 2, 3]),
            num_heads=vision_heads,
            intermediate_size=rng.choice([20, 44]),
        ),
        text=TextConfig(
            vocab_size=vocab_size,
            hidden_size=num_heads * rng.choice([5, 7, 9]),  # transformers insists; never heads * head_dim
            num_layers=layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            intermediate_size=rng.choice([40, 72]),
            query_pre_attn_scalar=float(rng.choice([3, 5, 7, 12])),
            attention_cap=rng.choice([None, 2.0, 10.0, 50.0]),
            final_cap=rng.choice([None, 4.0, 10.0, 30.0]),
            sliding_window=rng.choice([2, 3, 5, 7]),
            sliding_layers=(True, *(rng.random() < 0.5 for _ in range(layers - 1))),
            rope_theta=rng.choice([100.0, 10000.0]),
        ),
        # An id inside the table, and one behind its last row as in big_vision's 257152-row tables.
        image_token_id=vocab_size - rng.choice([0, 3]),
    )


def their_model(config: ModelConfig) -> Any:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    vision, text = config.vision, config.text
    theirs = PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "vision_use_head": False,
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": "gelu_pytorch_tanh",
        },
        text_config={
            "model_type": "gemma2",
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "num_key_value_heads": text.num_kv_heads,
            "head_dim": text.head_dim,
            "query_pre_attn_scalar": int(text.query_pre_attn_scalar),
            "sliding_window": text.sliding_window,
            "layer_types": [
                "sliding_attention" if sliding else "full_attention" for sliding in text.sliding_layers
            ],
            "attn_logit_softcapping": text.attention_cap,
            "final_logit_softcapping": text.final_cap,
            "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
            "rms_norm_eps": text.rms_norm_eps,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 256,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        image_token_index=config.image_token_id,
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
        vocab_size=text.vocab_size,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return PaliGemmaForConditionalGeneration._from_config(theirs, attn_implementation="eager").eval()


@functools.cache
def random_reference(seed: int) -> Reference:
    rng = random.Random(seed)
    config = random_config(rng)
    theirs = their_model(config)
    with torch.no_grad():
        fill(theirs, seed)
    theirs.tie_weights()
    theirs.generation_config.eos_token_id = None

    def text(length: int) -> list[int]:
        return [rng.randrange(3, config.num_text_rows) for _ in range(length)]

    images = [rng.choice([1, 2]), rng.choice([1, 3]), 2]
    prompts = [
        [config.image_token_id] * (config.num_image_tokens * count) + [2, *text(length), 10]
        for count, length in zip(images, rng.sample(range(1, 9), 3), strict=True)
    ]
    size = config.vision.image_size
    generator = torch.Generator().manual_seed(seed)
    return Reference(
        theirs=theirs,
        config=config,
        weights=normalised(theirs.state_dict()),
        pixel_values=torch.rand(sum(images), 3, size, size, generator=generator) * 2 - 1,
        prompts=prompts,
        suffixes=[[*text(length), 1] for length in rng.sample(range(1, 8), 3)],
    )


@pytest.fixture
def reference() -> Callable[[int], Reference]:
    """A function from a seed to a random `transformers` model with inputs; made once per seed."""
    return random_reference


@dataclasses.dataclass(frozen=True)
class GoldenCase:
    """One `expected_*` file: the model it was made with, its inputs, and what the reference computed."""

    name: str
    model: PaliGemma2Model
    inputs: dict[str, Tensor]
    stored: dict[str, Tensor]

    @property
    def prompt_layout(self) -> PrefixLayout:
        is_valid = self.inputs["prompt_attention_mask"].bool()
        return PrefixLayout.from_flags(is_valid, is_valid)

    @property
    def train_layout(self) -> PrefixLayout:
        is_valid = self.inputs["train_attention_mask"].bool()
        return PrefixLayout.from_flags(is_valid, self.inputs["train_token_type_ids"] == 0)


def _read_arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@functools.cache
def read_golden(folder: Path, file: str) -> GoldenCase:
    match = re.fullmatch(r"expected_(?P<variant>.+)_w(?P<window>\d+)\.npz", file)
    if match is None:
        pytest.fail(f"{folder / file} is not named expected_VARIANT_wWINDOW.npz, so nothing can read it")
    config = config_from_json(json.loads((folder / match["variant"] / "config.json").read_text()))
    text = dataclasses.replace(config.text, sliding_window=int(match["window"]))
    model = PaliGemma2Model(dataclasses.replace(config, text=text)).eval()
    model.load_state_dict(normalised(load_file(folder / "model.safetensors")), strict=True)
    return GoldenCase(file, model, _read_arrays(folder / "inputs.npz"), _read_arrays(folder / file))


def stored_arrays(folder: Path) -> list[str]:
    """FILE/ARRAY of everything that the `expected_*` files hold."""
    names = []
    for path in sorted(folder.glob("expected_*")):
        with np.load(path) as arrays:
            names += [f"{path.name}/{name}" for name in arrays.files]
    return names or ["no expected_* file/no array"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case for every array of the golden folder, so that none is passed over in silence."""
    if "stored_array" in metafunc.fixturenames:
        plugins = metafunc.config.pluginmanager.get_plugins()
        folder = next(x for x in plugins if hasattr(x, "golden_model_folder")).golden_model_folder()
        metafunc.parametrize("stored_array", stored_arrays(folder))


@pytest.fixture
def golden_case(golden_model: Path, stored_array: str) -> GoldenCase:
    """The model and inputs that belong to this array's file; read once."""
    return read_golden(golden_model, stored_array.partition("/")[0])
