"""Settings by name: `training.learning_rate=3e-6` to a new frozen configuration."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union

from paligemma2.errors import ConfigError

Config = TypeVar("Config")
_WORDS = {"true": True, "yes": True, "false": False, "no": False}


def with_settings(config: Config, settings: Iterable[str]) -> Config:
    """A copy of a configuration with some settings changed, all at once: their order does not matter.

    Values are read by the types of the fields: numbers, words, `true` and `false`, `none` where a field may
    be None, lists as `a,b`, tables as `a:1,b:2`. A part of the configuration that is None begins with its
    defaults as soon as something in it is set. Of settings with one name the last counts.

    Args:
        config: a frozen dataclass, whose fields may be frozen dataclasses.
        settings: each is `name=value` or `part.name=value`.

    Raises:
        ConfigError: no such setting, a value that cannot be read, or one that makes no sense.
    """
    changes: dict[str, Any] = {}
    known = setting_names(config)
    for setting in settings:
        name, has_value, value = map(str.strip, setting.partition("="))
        if not has_value:
            raise ConfigError(f"{setting!r} has no value", hint="write name=value")
        if name not in known:
            raise _unknown(name, known)
        *parts, field = name.split(".")
        within = changes
        for part in parts:
            within = within.setdefault(part, {})
        within[field] = value
    return _changed(config, changes)


def setting_names(config: object) -> tuple[str, ...]:
    """The names of all settings of a configuration."""
    names: list[str] = []
    for field, kind in _fields(config).items():
        part = _part_of(kind)
        names += [field] if part is None else [f"{field}.{name}" for name in setting_names(part)]
    return tuple(names)


def _changed(config: Config, changes: Mapping[str, Any], within: str = "") -> Config:
    kinds, new = _fields(config), dict[str, Any]()
    for field, change in changes.items():
        part = _part_of(kinds[field])
        if part is None:
            new[field] = _read(kinds[field], change, within + field)
        else:
            before = getattr(config, field)
            new[field] = _changed(part() if before is None else before, change, f"{within}{field}.")
    return dataclasses.replace(config, **new)  # type: ignore[type-var]


def _unknown(name: str, known: tuple[str, ...]) -> ConfigError:
    last = name.rpartition(".")[2]
    ends = [each for each in known if each.rpartition(".")[2] == last]
    near = ends or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"there is no setting {name!r}", hint=hint)


def _fields(config: object) -> dict[str, Any]:
    kind = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _options(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _part_of(kind: Any) -> type | None:
    return next((each for each in _options(kind) if dataclasses.is_dataclass(each)), None)  # type: ignore[return-value]


def _read(kind: Any, value: str, name: str) -> Any:
    options = _options(kind)
    if type(None) in options and value.lower() == "none":
        return None
    wanted = next(each for each in options if each is not type(None))
    origin = typing.get_origin(wanted)
    if origin is typing.Literal:
        return _choice(typing.get_args(wanted), value, name)
    if origin is tuple:
        return tuple(_single(typing.get_args(wanted)[0], each, name) for each in _parts(value))
    if origin in (Mapping, dict):
        _, kind_of_value = typing.get_args(wanted)
        pairs = [each.rpartition(":") for each in _parts(value)]
        if not all(key for key, _, _ in pairs):
            raise ConfigError(f"{name} is {value!r}", hint=f"give names and values, as in {name}=a:1,b:2")
        return {key: _single(kind_of_value, number, name) for key, _, number in pairs}
    return _single(wanted, value, name)


def _parts(value: str) -> list[str]:
    return [each.strip() for each in value.split(",") if each.strip()]


def _choice(known: tuple[Any, ...], value: str, name: str) -> Any:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}", hint=f"use one of {', '.join(map(str, known))}")
    return value


def _single(kind: Any, value: str, name: str) -> Any:
    if kind is bool:
        if value.lower() not in _WORDS:
            raise ConfigError(f"{name} is {value!r}", hint="use true or false")
        return _WORDS[value.lower()]
    if typing.get_origin(kind) is typing.Literal:
        return _choice(typing.get_args(kind), value, name)
    try:
        return kind(value)
    except ValueError as error:
        what = f"a whole number, as in {name}=3" if kind is int else f"a number, as in {name}=0.1"
        raise ConfigError(f"{name} is {value!r}", hint=f"give {what}") from error
