import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paligemma2.checkpoint.config_json import config_from_json, config_to_json, read_config, read_json
from paligemma2.errors import CheckpointError, ConfigError, PaliGemmaError
from paligemma2.model.config import PRESETS, ModelConfig
from tests.checkpoint.small_checkpoints import small_config


def released() -> dict[str, object]:
    """The fields that a released file is known to have, in the spelling of its time."""
    return {
        "model_type": "paligemma",
        "image_token_index": 257152,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "projection_dim": 2304,
        "num_positions": 7,
        "text_config": {
            "model_type": "gemma2",
            "vocab_size": 257216,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "cache_implementation": "hybrid",
            "num_image_tokens": 9,
            "query_pre_attn_scalar": 256,
            "rope_theta": 10000.0,
            "eos_token_id": [1, 107],
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "patch_size": 14,
            "num_image_tokens": 9,
            "vision_use_head": False,
        },
    }


def change(section: str, **fields: object) -> dict[str, object]:
    data = json.loads(json.dumps(released()))
    (data[section] if section else data).update(fields)
    return data


def without(section: str, name: str) -> dict[str, object]:
    data = released()
    del (data[section] if section else data)[name]  # type: ignore[attr-defined]
    return data


def test_a_released_file_is_the_preset() -> None:
    assert config_from_json(released()) == PRESETS["paligemma2-3b-pt-224"]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_a_round_trip(name: str) -> None:
    assert config_from_json(config_to_json(PRESETS[name], dtype="bfloat16")) == PRESETS[name]


@pytest.mark.parametrize(
    "text",
    [
        {"attention_cap": None, "final_cap": None},
        {"sliding_window": None},
        {"sliding_layers": (False, True, True, False)},
        {"embedding_scale": 3.5, "round_embedding_scale": False},
        {"rope_theta": 500.0, "query_pre_attn_scalar": 20.5},
    ],
)
def test_what_differs_from_the_presets_survives_a_round_trip(text: dict[str, object]) -> None:
    config = small_config(**text)
    assert config_from_json(json.loads(json.dumps(config_to_json(config, dtype="float32")))) == config


def test_our_extra_fields_are_written_only_when_they_say_something() -> None:
    text = config_to_json(PRESETS["paligemma2-3b-pt-224"], dtype="bfloat16")["text_config"]
    assert not {"embedding_scale", "round_embedding_scale"} & set(text)  # type: ignore[call-overload]


SPELLINGS: list[tuple[dict[str, object], Callable[[ModelConfig], object], object]] = [
    (change("text_config", rope_parameters={"rope_theta": 5.0}), lambda c: c.text.rope_theta, 5.0),
    (change("text_config", rope_theta=6.0), lambda c: c.text.rope_theta, 6.0),
    (change("text_config", attn_logit_softcapping=0.0), lambda c: c.text.attention_cap, None),
    (change("text_config", attn_logit_softcapping=None), lambda c: c.text.attention_cap, None),
    (change("text_config", final_logit_softcapping=0), lambda c: c.text.final_cap, None),
    (change("text_config", sliding_window=None), lambda c: c.text.sliding_window, None),
    (change("text_config", layer_types=["full_attention"] * 26), lambda c: any(c.text.sliding_layers), False),
    (change("text_config"), lambda c: c.text.sliding_layers[:3], (True, False, True)),
    (change("vision_config", image_size=448), lambda c: c.num_image_tokens, 1024),
    (change("", image_token_index=None, image_token_id=9), lambda c: c.image_token_id, 9),
    (change("", eos_token_id=[1, 107]), lambda c: c.eos_token_id, 1),
    (without("", "eos_token_id"), lambda c: c.eos_token_id, 1),
    (without("", "bos_token_id"), lambda c: c.bos_token_id, 2),
]


@pytest.mark.parametrize(("data", "value", "expected"), SPELLINGS)
def test_spellings_in_the_wild(
    data: dict[str, object], value: Callable[[ModelConfig], object], expected: object
) -> None:
    assert value(config_from_json(data)) == expected


def test_absent_fields_have_the_defaults_of_transformers() -> None:
    from transformers import Gemma2Config, SiglipVisionConfig

    data = {
        "model_type": "paligemma",
        "image_token_index": 5,
        "text_config": {"model_type": "gemma2"},
        "vision_config": {},
    }
    config, text, vision = config_from_json(data), Gemma2Config(), SiglipVisionConfig()
    assert config.text.vocab_size == text.vocab_size
    assert config.text.head_dim == text.head_dim
    assert config.text.query_pre_attn_scalar == text.query_pre_attn_scalar
    assert config.text.max_positions == text.max_position_embeddings
    assert (config.text.attention_cap, config.text.final_cap) == (50.0, 30.0)
    assert dataclasses.astuple(config.vision) == (
        vision.image_size,
        vision.patch_size,
        vision.num_channels,
        vision.hidden_size,
        vision.num_hidden_layers,
        vision.num_attention_heads,
        vision.intermediate_size,
        vision.layer_norm_eps,
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (change("", model_type="llava"), "model_type is 'llava'"),
        (without("", "model_type"), "model_type is missing"),
        (without("", "text_config"), "text_config is missing"),
        (without("", "image_token_index"), "image_token_index is missing"),
        (change("", text_config=[]), "text_config is []"),
        (change("text_config", model_type="gemma"), "PaliGemma 1"),
        (change("text_config", model_type="llama"), "text_config.model_type is 'llama'"),
        (change("vision_config", model_type="clip"), "vision_config.model_type is 'clip'"),
        (change("vision_config", hidden_act="gelu"), "vision_config.hidden_act is 'gelu'"),
        (change("text_config", hidden_activation="silu"), "text_config.hidden_activation is 'silu'"),
        (change("text_config", hidden_size="2304"), "text_config.hidden_size is '2304'"),
        (change("text_config", hidden_size=True), "text_config.hidden_size is True"),
        (change("text_config", head_dim=None), "text_config.head_dim is None"),
        (change("text_config", num_hidden_layers=2.5), "text_config.num_hidden_layers is 2.5"),
        (change("text_config", num_hidden_layers=-1), "num_layers is -1"),
        (change("text_config", rms_norm_eps="small"), "text_config.rms_norm_eps is 'small'"),
        (change("text_config", attention_bias=True), "text_config.attention_bias is True"),
        (change("text_config", tie_word_embeddings=False), "text_config.tie_word_embeddings is False"),
        (change("text_config", layer_types=["full_attention"]), "expected 26 entries"),
        (change("text_config", layer_types=["linear"]), "text_config.layer_types is ['linear']"),
        (change("text_config", rope_scaling={"factor": 2}), "text_config.rope_scaling"),
        (change("text_config", rope_parameters={"rope_type": "yarn"}), "rope_parameters.rope_type is 'yarn'"),
        (change("vision_config", image_size=225), "image_size 225 is not a multiple"),
        (change("vision_config", vision_use_head=True), "vision_config.vision_use_head is True"),
        (change("", eos_token_id="x"), "eos_token_id is 'x'"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(data: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_from_json(data, where="here/config.json")
    assert said in raised.value.message
    assert raised.value.message.startswith("here/config.json")
    assert raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not a JSON file"),
        ("[]", "not a JSON object"),
        ('{"a": 1, "a": 2}', "listed twice: a"),
        ("\ufffe", "not a JSON file"),
    ],
)
def test_a_file_that_is_absent_or_not_json(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=said) as raised:
        read_json(path)
    assert str(path) in raised.value.message
    with pytest.raises(PaliGemmaError):
        read_config(tmp_path)


@pytest.mark.golden
@pytest.mark.parametrize(("variant", "cap"), [("softcap", 50.0), ("nosoftcap", None)])
def test_the_golden_configurations_are_read(golden: Callable[[str], Path], variant: str, cap: float) -> None:
    config = read_config(golden(variant))
    assert config.text.attention_cap == cap
    assert config.text.sliding_window == 8
