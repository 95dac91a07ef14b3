"""`adapter_config.json` of `peft`: which layers an adapter changes, with what rank and scale.

Names of modules are chosen by the rules of `peft` 0.21 (`tuners_utils.check_target_module_exists`,
`utils.other.get_pattern_key`). Settings that change what is computed and are not known here are refused.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from paligemma2.checkpoint.config_json import read_json
from paligemma2.errors import ConfigError
from paligemma2.model.lora import Adapter
from paligemma2.model.lora_settings import fits_end

_Number = TypeVar("_Number", int, float)
Modules: TypeAlias = str | tuple[str, ...]
"""Modules by a regular expression for the whole name, or by the ends of their names."""

ALL_LINEAR = "all-linear"
_HINT = "merge the adapter into its base model with `peft` (`merge_and_unload`), and load the result"
_ALLOWED: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    # The other ways to begin also change the weights of the base model.
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
_MODULES = {"target_modules", "exclude_modules"}
_SIZES = {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
_ABOUT = {"base_model_name_or_path", "revision", "auto_mapping", "task_type", "peft_version"}
_ONLY_IN_TRAINING = {"inference_mode", "lora_dropout"}
# Numbers and names for what is switched on by another setting.
_OF_OTHERS = {"megatron_core", "qalora_group_size", "layers_pattern"}
_MAY_BE_ON = _MODULES | _SIZES | _ABOUT | _ONLY_IN_TRAINING | _OF_OTHERS


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What an adapter changes; modules are called as in the file of its tensors.

    Attributes:
        targets: the layers that are changed; "all-linear" is every linear layer.
        excluded: layers that are not changed even so.
        rank: of the changes.
        alpha: scales them.
        rank_pattern: other ranks, by a regular expression for the end of a name; the first that fits counts.
        alpha_pattern: other alphas, in the same way.
        is_rank_stabilized: see `Adapter`.
        base_model: see `Adapter`.
    """

    targets: Modules
    excluded: Modules = ()
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    is_rank_stabilized: bool = False
    base_model: str = ""

    def changes(self, module: str) -> bool:
        """Whether a linear layer is changed."""
        if _is_among(module, self.excluded):
            return False
        return self.targets == ALL_LINEAR or _is_among(module, self.targets)

    def rank_of(self, module: str) -> int:
        """The rank in this layer."""
        return next((self.rank_pattern[key] for key in _fitting(module, self.rank_pattern)), self.rank)

    def alpha_of(self, module: str) -> float:
        """The alpha of this layer."""
        return next((self.alpha_pattern[key] for key in _fitting(module, self.alpha_pattern)), self.alpha)


def _is_among(module: str, modules: Modules) -> bool:
    if isinstance(modules, str):
        return re.fullmatch(modules, module) is not None
    return any(module == end or module.endswith(f".{end}") for end in modules)


def _fitting(module: str, patterns: Mapping[str, object]) -> list[str]:
    return [key for key in patterns if fits_end(key, module)]


def read_adapter_config(path: Path) -> AdapterConfig:
    """The settings in a file.

    Raises:
        CheckpointError: the file is absent or not JSON.
        ConfigError: it is no LoRA, a setting is on that is not supported here, or has no sensible value.
    """
    data = read_json(path)
    for name in (*_ALLOWED, *data):
        value = data.get(name)
        is_allowed = value in _ALLOWED[name] if name in _ALLOWED else name in _MAY_BE_ON or not value
        if not is_allowed:
            raise ConfigError(f"{path}: {name} is {value!r}, which is not supported", hint=_HINT)
    fields = _Fields(path, data)
    targets = fields.modules("target_modules")
    if not targets:
        raise fields.error("target_modules", "a text, or a list of names")
    return AdapterConfig(
        targets=ALL_LINEAR if str(targets).lower() == ALL_LINEAR else targets,
        excluded=fields.modules("exclude_modules"),
        rank=fields.rank("r", data.get("r", 8)),
        alpha=fields.number("lora_alpha", data.get("lora_alpha", 8)),
        rank_pattern={key: fields.rank("rank_pattern", v) for key, v in fields.patterns("rank_pattern")},
        alpha_pattern={key: fields.number("alpha_pattern", v) for key, v in fields.patterns("alpha_pattern")},
        is_rank_stabilized=fields.flag("use_rslora"),
        base_model=str(data.get("base_model_name_or_path") or ""),
    )


class _Fields:
    """The fields of one file; an error names the file and the field."""

    def __init__(self, path: Path, data: Mapping[str, object]) -> None:
        self._path = path
        self._data = data

    def error(self, name: str, expected: str) -> ConfigError:
        found = f"{name} is {self._data.get(name)!r}"
        return ConfigError(f"{self._path}: {found}; expected {expected}", hint="write the adapter again")

    def modules(self, name: str) -> Modules:
        value = self._data.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            self._check_pattern(name, value)
            return value
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.error(name, "a text, or a list of names")
        return tuple(value)

    def patterns(self, name: str) -> list[tuple[str, object]]:
        value = self._data.get(name) or {}
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        for key in value:
            self._check_pattern(name, key)
        return list(value.items())

    def rank(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(name, "whole numbers of at least 1")
        return value

    def number(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, "numbers")
        return value

    def flag(self, name: str) -> bool:
        value = self._data.get(name, False)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def _check_pattern(self, name: str, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise self.error(name, f"regular expressions ({error})") from error


def config_of(adapter: Adapter, linear_layers: Collection[str]) -> AdapterConfig:
    """The settings of an adapter; they fit the names of modules in every layout.

    Args:
        adapter: has changes.
        linear_layers: our names of all linear layers of the model.
    """
    ranks = {layer: change.a.shape[0] for layer, change in adapter.changes.items()}
    alphas = {layer: change.alpha for layer, change in adapter.changes.items()}
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    return AdapterConfig(
        targets=_pattern_of(list(adapter.changes), linear_layers),
        rank=rank,
        alpha=alpha,
        rank_pattern={_in_any_layout(layer): each for layer, each in ranks.items() if each != rank},
        alpha_pattern={_in_any_layout(layer): each for layer, each in alphas.items() if each != alpha},
        is_rank_stabilized=adapter.is_rank_stabilized,
        base_model=adapter.base_model,
    )


def config_to_json(config: AdapterConfig) -> dict[str, object]:
    """`adapter_config.json` as `peft` reads it."""
    return {
        "alpha_pattern": {key: _shortest(value) for key, value in config.alpha_pattern.items()},
        "base_model_name_or_path": config.base_model or None,
        "bias": "none",
        "exclude_modules": config.excluded or None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": _shortest(config.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": dict(config.rank_pattern),
        "target_modules": config.targets,
        "task_type": None,
        "use_dora": False,
        "use_rslora": config.is_rank_stabilized,
    }


def _most_common(values: Iterable[_Number]) -> _Number:
    return Counter(values).most_common(1)[0][0]


def _shortest(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _pattern_of(layers: Sequence[str], linear_layers: Collection[str]) -> str:
    """A regular expression for exactly these layers: short if all of a kind are changed, else one by one."""
    kinds: dict[str, set[str]] = {}
    for layer in layers:
        kinds.setdefault(layer.partition(".")[0], set()).add(layer.rpartition(".")[2])
    short = "|".join(rf".*{part}.*\.({'|'.join(sorted(ends))})" for part, ends in kinds.items())
    if sum(_is_among(layer, short) for layer in linear_layers) == len(layers):
        return short
    return f".*({'|'.join(map(_in_any_layout, layers))})"


def _in_any_layout(layer: str) -> str:
    """Fits the name of a layer with whatever other levels it has in a layout."""
    part, _, rest = layer.partition(".")
    return f"{part}.*{rest}"
