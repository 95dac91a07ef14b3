import json
from pathlib import Path

import pytest
from peft import LoraConfig

from paligemma2.checkpoint.adapter_config import (
    AdapterConfig,
    config_of,
    config_to_json,
    read_adapter_config,
)
from paligemma2.errors import CheckpointError, ConfigError
from paligemma2.model.lora import Adapter
from tests.checkpoint.small_checkpoints import small_config
from tests.small_adapter import random_adapter

WRITTEN = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], lora_dropout=0.05)
Q, K = "model.language_model.layers.3.self_attn.q_proj", "model.language_model.layers.3.self_attn.k_proj"


def read(tmp_path: Path, **settings: object) -> AdapterConfig:
    """What `peft` writes, with some settings changed."""
    WRITTEN.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return read_adapter_config(path)


def test_what_peft_writes_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, base_model_name_or_path="google/paligemma2-3b-pt-224")
    assert (config.rank, config.alpha, config.is_rank_stabilized) == (4, 16, False)
    assert config.base_model == "google/paligemma2-3b-pt-224"
    assert config.changes(Q)
    assert not config.changes(K)


def test_what_old_releases_leave_out_has_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q_proj"]}))
    config = read_adapter_config(path)
    assert (config.rank, config.alpha) == (LoraConfig().r, LoraConfig().lora_alpha)
    assert config.rank_pattern == config.alpha_pattern == {}


@pytest.mark.parametrize(
    ("targets", "excluded", "is_changed"),
    [
        ("all-linear", None, True),
        ("All-Linear", None, True),
        (r".*language_model.*q_proj", None, True),
        (r"language_model.*q_proj", None, False),  # the whole name counts
        (["layers.3.self_attn.q_proj"], None, True),
        (["proj"], None, False),  # the end of a name begins at a dot
        ([Q], None, True),
        (["q_proj"], ["q_proj"], False),
        ("all-linear", r".*layers\.3\..*", False),
        (["q_proj"], r".*layers\.4\..*", True),
    ],
)
def test_layers_are_chosen_by_name_or_expression(
    tmp_path: Path, targets: object, excluded: object, is_changed: bool
) -> None:
    assert read(tmp_path, target_modules=targets, exclude_modules=excluded).changes(Q) == is_changed


def test_the_first_pattern_that_fits_the_end_of_a_name_counts(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        rank_pattern={"self_attn": 1, r"layers\.\d\.self_attn.q_proj": 2, "q_proj": 3},
        alpha_pattern={"^layers.3.self_attn.q_proj": 5, f"^{K}": 7.5},
    )
    assert (config.rank_of(Q), config.rank_of(K)) == (2, 4)
    assert (config.alpha_of(Q), config.alpha_of(K)) == (16, 7.5)


@pytest.mark.parametrize(
    "setting",
    [
        {"peft_type": "IA3"},
        {"peft_type": None},
        {"bias": "all"},
        {"fan_in_fan_out": True},
        {"use_dora": True},
        {"lora_bias": True},
        {"modules_to_save": ["embed_tokens"]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"layers_to_transform": [0, 1]},
        {"trainable_token_indices": [5]},
        {"target_parameters": ["a"]},
        {"a_setting_of_the_future": True},
    ],
)
def test_a_setting_that_would_change_the_result_is_refused(
    tmp_path: Path, setting: dict[str, object]
) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"{name} is {value!r}, which is not".replace("[", r"\[")) as raised:
        read(tmp_path, **setting)
    assert "merge_and_unload" in raised.value.hint


@pytest.mark.parametrize(
    "setting",
    [
        {"r": 0},
        {"r": True},
        {"lora_alpha": "8"},
        {"rank_pattern": {"q_proj": 1.5}},
        {"rank_pattern": ["q_proj"]},
        {"rank_pattern": {"(": 1}},
        {"alpha_pattern": {"q_proj": None}},
        {"use_rslora": "yes"},
        {"target_modules": None},
        {"target_modules": []},
        {"target_modules": [1]},
        {"target_modules": "("},
        {"exclude_modules": {"a": 1}},
    ],
)
def test_a_value_that_makes_no_sense_is_named(tmp_path: Path, setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(ConfigError, match=f"{name} is .*; expected "):
        read(tmp_path, **setting)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a JSON file"):
        read_adapter_config(tmp_path / "adapter_config.json")


@pytest.mark.parametrize(
    "layers", [r"language_model\..*", ".*", r".*q_proj", r"language_model\.layers\.[02]\..*", r".*linear"]
)
def test_the_settings_of_an_adapter_name_exactly_its_layers(layers: str) -> None:
    config = small_config()
    linear = random_adapter(config, ".*").changes
    adapter = random_adapter(config, layers)
    settings = config_of(adapter, linear)
    assert [layer for layer in linear if settings.changes(layer)] == list(adapter.changes)


def test_ranks_and_alphas_that_differ_become_patterns_and_whole_numbers_stay_whole() -> None:
    config = small_config()
    usual = random_adapter(config, rank=3, alpha=6.0).changes
    q, k = (f"language_model.layers.1.self_attn.{name}_proj" for name in "qk")
    other = random_adapter(config, f"{q}|{k}", rank=2, alpha=2.5).changes
    adapter = Adapter(changes={**usual, **other}, is_rank_stabilized=True, base_model="it")
    data = config_to_json(config_of(adapter, usual))
    patterns = [f"language_model.*layers.1.self_attn.{name}_proj" for name in "qk"]
    assert data["r"] == 3
    assert data["rank_pattern"] == dict.fromkeys(patterns, 2)
    assert repr(data["lora_alpha"]) == "6"
    assert data["alpha_pattern"] == dict.fromkeys(patterns, 2.5)
    assert (data["use_rslora"], data["base_model_name_or_path"]) == (True, "it")


def test_peft_knows_every_setting_that_we_write() -> None:
    adapter = random_adapter(small_config())
    data = config_to_json(config_of(adapter, adapter.changes))
    assert not data.keys() - WRITTEN.to_dict().keys()
