"""`config.json` of Hugging Face folders, in every spelling seen in the wild, to and from `ModelConfig`."""

import json
from collections.abc import Mapping
from pathlib import Path

from paligemma2.errors import CheckpointError, ConfigError
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig

_ACTIVATION = "gelu_pytorch_tanh"
_HINT = "correct config.json, or download it again"


class _Section:
    """One JSON object, read field by field; an error names the file and the field."""

    def __init__(self, data: Mapping[str, object], where: str, prefix: str = "") -> None:
        self.data = data
        self.where = where
        self.prefix = prefix

    def error(self, name: str, expected: str) -> ConfigError:
        found = f"is {self.data[name]!r}" if name in self.data else "is missing"
        return ConfigError(f"{self.where}: {self.prefix}{name} {found}; expected {expected}", hint=_HINT)

    def section(self, name: str) -> "_Section":
        value = self.data.get(name)
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        return _Section(value, self.where, f"{self.prefix}{name}.")

    def has(self, name: str) -> bool:
        return self.data.get(name) is not None

    def integer(self, name: str, default: int) -> int:
        value = self.data.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, "a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.data.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, "a number")
        return float(value)

    def cap(self, name: str, default: float) -> float | None:
        """A soft-cap: null and 0 both mean off."""
        if name in self.data and self.data[name] is None:
            return None
        return self.number(name, default) or None

    def flag(self, name: str, default: bool) -> bool:
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def require(self, name: str, *allowed: str) -> None:
        if self.data.get(name) not in allowed:
            raise self.error(name, " or ".join(repr(value) for value in allowed))


def config_from_json(data: Mapping[str, object], *, where: str = "config.json") -> ModelConfig:
    """The model that a parsed `config.json` describes.

    Fields that are absent have the defaults of `transformers`; `num_image_tokens` and `num_positions` are
    ignored, since the number of image tokens follows from the image and patch size.

    Args:
        data: the parsed file.
        where: name of the file, for messages.

    Raises:
        ConfigError: another kind of model, a field of the wrong type, or sizes that do not fit together.
    """
    top = _Section(data, where)
    top.require("model_type", "paligemma")
    text, vision = top.section("text_config"), top.section("vision_config")
    if text.data.get("model_type") == "gemma":
        raise ConfigError(
            f"{where}: text_config.model_type is 'gemma', which is PaliGemma 1",
            hint="use a PaliGemma 2 checkpoint, e.g. google/paligemma2-3b-pt-224",
        )
    text.require("model_type", "gemma2")
    image_token = "image_token_index" if top.has("image_token_index") else "image_token_id"
    if not top.has(image_token):
        raise top.error("image_token_index", "the id of <image>")
    try:
        return ModelConfig(
            vision=_vision(vision),
            text=_text(text),
            image_token_id=top.integer(image_token, 0),
            pad_token_id=_token_id(top, text, "pad_token_id", 0),
            eos_token_id=_token_id(top, text, "eos_token_id", 1),
            bos_token_id=_token_id(top, text, "bos_token_id", 2),
        )
    except ConfigError as error:
        if error.message.startswith(where):
            raise
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error


def _vision(section: _Section) -> VisionConfig:
    if section.has("model_type"):
        section.require("model_type", "siglip_vision_model")
    if section.has("hidden_act"):
        section.require("hidden_act", _ACTIVATION)
    if section.flag("vision_use_head", False):
        raise section.error("vision_use_head", "false: PaliGemma has no pooling head")
    return VisionConfig(
        image_size=section.integer("image_size", 224),
        patch_size=section.integer("patch_size", 16),
        num_channels=section.integer("num_channels", 3),
        hidden_size=section.integer("hidden_size", 768),
        num_layers=section.integer("num_hidden_layers", 12),
        num_heads=section.integer("num_attention_heads", 12),
        intermediate_size=section.integer("intermediate_size", 3072),
        layer_norm_eps=section.number("layer_norm_eps", 1e-6),
    )


def _text(section: _Section) -> TextConfig:
    activation = "hidden_activation" if section.has("hidden_activation") else "hidden_act"
    if section.has(activation):
        section.require(activation, _ACTIVATION)
    if section.flag("attention_bias", False):
        raise section.error("attention_bias", "false")
    if not section.flag("tie_word_embeddings", True):
        raise section.error("tie_word_embeddings", "true: the output layer is the embedding")
    num_layers = section.integer("num_hidden_layers", 26)
    window = _sliding_window(section)
    return TextConfig(
        vocab_size=section.integer("vocab_size", 256000),
        hidden_size=section.integer("hidden_size", 2304),
        num_layers=num_layers,
        num_heads=section.integer("num_attention_heads", 8),
        num_kv_heads=section.integer("num_key_value_heads", 4),
        head_dim=section.integer("head_dim", 256),
        intermediate_size=section.integer("intermediate_size", 9216),
        query_pre_attn_scalar=section.number("query_pre_attn_scalar", 256),
        attention_cap=section.cap("attn_logit_softcapping", 50.0),
        final_cap=section.cap("final_logit_softcapping", 30.0),
        sliding_window=window,
        # Without a window the layer types mean nothing, so that "off" has one spelling.
        sliding_layers=() if window is None else _sliding_layers(section, num_layers),
        rope_theta=_rope_theta(section),
        rms_norm_eps=section.number("rms_norm_eps", 1e-6),
        embedding_scale=section.number("embedding_scale", 1.0) if section.has("embedding_scale") else None,
        round_embedding_scale=section.flag("round_embedding_scale", True),
        max_positions=section.integer("max_position_embeddings", 8192),
    )


def _sliding_window(section: _Section) -> int | None:
    if "sliding_window" in section.data and section.data["sliding_window"] is None:
        return None
    return section.integer("sliding_window", 4096) or None


def _sliding_layers(section: _Section, num_layers: int) -> tuple[bool, ...]:
    if not section.has("layer_types"):
        return tuple(layer % 2 == 0 for layer in range(num_layers))
    types = section.data["layer_types"]
    known = {"sliding_attention": True, "full_attention": False}
    if not isinstance(types, list) or any(not isinstance(kind, str) or kind not in known for kind in types):
        raise section.error("layer_types", "a list of 'sliding_attention' and 'full_attention'")
    if len(types) != num_layers:
        raise section.error("layer_types", f"{num_layers} entries, one per layer")
    return tuple(known[kind] for kind in types)


def _rope_theta(section: _Section) -> float:
    if section.has("rope_scaling"):
        raise section.error("rope_scaling", "null: scaled rotary positions are not part of PaliGemma 2")
    if not section.has("rope_parameters"):
        return section.number("rope_theta", 10000.0)
    rope = section.section("rope_parameters")
    if rope.has("rope_type"):
        rope.require("rope_type", "default")
    return rope.number("rope_theta", section.number("rope_theta", 10000.0))


def _token_id(top: _Section, text: _Section, name: str, default: int) -> int:
    section = top if top.has(name) else text
    if not section.has(name):
        return default
    value = section.data[name]
    if isinstance(value, list) and value:
        # Gemma's chat models list [1, 107]; PaliGemma stops at <eos> alone.
        value = default if default in value else value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        raise section.error(name, "a token id")
    return value


def config_to_json(config: ModelConfig, *, dtype: str) -> dict[str, object]:
    """`config.json` as `transformers` reads it, old releases and new.

    Args:
        config: the model.
        dtype: of the stored weights, e.g. `bfloat16`.
    """
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        **ids,
        "hidden_size": config.text.hidden_size,
        "image_token_index": config.image_token_id,
        "model_type": "paligemma",
        "projection_dim": config.text.hidden_size,
        "text_config": {**_text_to_json(config.text), **ids, "num_image_tokens": config.num_image_tokens},
        "torch_dtype": dtype,
        "vision_config": _vision_to_json(config),
        "vocab_size": config.text.vocab_size,
    }


def _text_to_json(text: TextConfig) -> dict[str, object]:
    scalar = text.query_pre_attn_scalar
    is_sliding = text.sliding_layers if text.sliding_window is not None else (False,) * text.num_layers
    data: dict[str, object] = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": text.attention_cap,
        "final_logit_softcapping": text.final_cap,
        "head_dim": text.head_dim,
        "hidden_activation": _ACTIVATION,
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        # transformers cannot have a sliding layer without a window.
        "layer_types": ["sliding_attention" if sliding else "full_attention" for sliding in is_sliding],
        "max_position_embeddings": text.max_positions,
        "model_type": "gemma2",
        "num_attention_heads": text.num_heads,
        "num_hidden_layers": text.num_layers,
        "num_key_value_heads": text.num_kv_heads,
        # transformers checks the type: a whole number must be written as one.
        "query_pre_attn_scalar": int(scalar) if float(scalar).is_integer() else scalar,
        "rms_norm_eps": text.rms_norm_eps,
        "rope_parameters": {"rope_theta": text.rope_theta, "rope_type": "default"},
        "rope_theta": text.rope_theta,
        "sliding_window": text.sliding_window,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": text.vocab_size,
    }
    if text.embedding_scale is not None:
        data["embedding_scale"] = text.embedding_scale
    if not text.round_embedding_scale:
        data["round_embedding_scale"] = False
    return data


def _vision_to_json(config: ModelConfig) -> dict[str, object]:
    vision = config.vision
    return {
        "hidden_act": _ACTIVATION,
        "hidden_size": vision.hidden_size,
        "image_size": vision.image_size,
        "intermediate_size": vision.intermediate_size,
        "layer_norm_eps": vision.layer_norm_eps,
        "model_type": "siglip_vision_model",
        "num_attention_heads": vision.num_heads,
        "num_channels": vision.num_channels,
        "num_hidden_layers": vision.num_layers,
        "num_image_tokens": vision.num_image_tokens,
        "patch_size": vision.patch_size,
        "projection_dim": config.text.hidden_size,
        "vision_use_head": False,
    }


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises:
        CheckpointError: no such file, not JSON, not an object, or a key stands in it twice.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}",
            hint="give a folder with config.json and model*.safetensors",
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file: {error}", hint="download it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint="download it again")
    return data


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"listed twice: {', '.join(twice[:3])}")
    return data


def read_config(folder: Path) -> ModelConfig:
    """The model described by `folder/config.json`.

    Raises:
        CheckpointError: the file is absent or not JSON.
        ConfigError: it describes another kind of model.
    """
    path = folder / "config.json"
    return config_from_json(read_json(path), where=str(path))
