"""What decides the numbers of an evaluation, as plain JSON with a hash: equal hashes, comparable numbers."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from paligemma2.data.readers.records import Reader
from paligemma2.errors import ConfigError
from paligemma2.evaluation.task import Row, Task, parse_splits
from paligemma2.metrics.scores import MODES, Mode
from paligemma2.model.config import ModelConfig
from paligemma2.types import Decoding

ProtocolName: TypeAlias = Literal["paligemma", "hf"]
PROTOCOLS: tuple[ProtocolName, ...] = ("paligemma", "hf")
Control: TypeAlias = Literal["", "shuffled pictures", "random weights"]
CONTROLS: tuple[Control, ...] = ("", "shuffled pictures", "random weights")
HASH = "hash"
OF_SCORES = frozenset({"metrics", "mode", HASH})
"""What a change of leaves the predictions as they are."""
_FORMAT = 1
_TEXT_POSITIONS = 1024
_OWN = "the checkpoint's own"


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """What is chosen for an evaluation, beside the task itself.

    Attributes:
        name: "paligemma" takes soft-caps, window and resize from the task, as the card's numbers were made;
            "hf" leaves all three as the checkpoint has them.
        mode: which rules the metrics follow.
        limit: so many rows of each split are drawn; None for all.
        seed: of that choice, and of controls.
        control: what is spoiled on purpose, to see what a model does without it; "" for nothing.

    Raises:
        ConfigError: a name is unknown, or the limit is not above zero.
    """

    name: ProtocolName = "paligemma"
    mode: Mode = "paligemma"
    limit: int | None = None
    seed: int = 0
    control: Control = ""

    def __post_init__(self) -> None:
        for setting, known in (("name", PROTOCOLS), ("mode", MODES), ("control", CONTROLS)):
            value = getattr(self, setting)
            if value not in known:
                what = "protocol" if setting == "name" else setting
                raise ConfigError(
                    f"{what} is {value!r}", hint=f"use one of {', '.join(each for each in known if each)}"
                )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}", hint="give a number above zero")


def task_protocol(name: str, task: Task, settings: ProtocolSettings, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that decides the numbers of some rows of a task, with its hash under "hash".

    Args:
        name: of the task.
        task: the task.
        settings: of the evaluation.
        rows: those that are evaluated.
    """
    splits = dict.fromkeys(split for row in rows for split in row.splits)
    return _hashed(
        _common(name, task, settings)
        | {
            "splits": {split: _readers(task, split) for split in splits},
            "metrics": [_metric(row) | {"row": row.title, "splits": list(row.splits)} for row in rows],
        }
    )


def split_protocol(name: str, task: Task, settings: ProtocolSettings, split: str) -> dict[str, Any]:
    """The same for one split, as it stands in the file of its predictions."""
    metrics = {row.metric.name: _metric(row) for row in task.rows if split in row.splits}
    return _hashed(
        _common(name, task, settings)
        | {
            "split": split,
            "reader": _readers(task, split),
            "metrics": [metrics[each] for each in sorted(metrics)],
        }
    )


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 of the canonical JSON of a protocol, without its "hash"."""
    content = {key: value for key, value in protocol.items() if key != HASH}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what two protocols have otherwise, but for the hash, in the order of the alphabet."""
    names = sorted((one.keys() | other.keys()) - {HASH})
    return tuple(name for name in names if one.get(name) != other.get(name))


def decoding_of(task: Task) -> Decoding:
    """How answers are decoded: greedily, or with as many beams as the task says by big_vision's rule."""
    if task.beams == 1:
        return Decoding(max_new_tokens=task.text_length)
    return Decoding(max_new_tokens=task.text_length, method="beam", beams=task.beams, beam_rule="big_vision")


def config_under(protocol: ProtocolName, task: Task, config: ModelConfig) -> ModelConfig:
    """The configuration of a model with the soft-caps and the window of the protocol.

    By the card's, the context holds the frames of a video: positions are angles and have no table, and
    big_vision has no limit.
    """
    if protocol == "hf":
        return config
    text = replace(
        config.text,
        final_cap=task.final_cap,
        attention_cap=task.attention_cap,
        sliding_window=task.window,
        max_positions=max(config.text.max_positions, _positions(task, config)),
    )
    return replace(config, text=text)


def _positions(task: Task, config: ModelConfig) -> int:
    if task.frames is None:
        return 0
    return task.frames.count * config.num_image_tokens + _TEXT_POSITIONS


def plain(value: Any) -> Any:
    """A value of a task as JSON: dataclasses with the names of their types, functions by their names.

    Raises:
        ConfigError: it is nothing that has the same text in every process.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **parts}
    if isinstance(value, functools.partial):
        return {
            "type": "partial",
            "of": plain(value.func),
            "with": [plain(value.args), plain(value.keywords)],
        }
    name = getattr(value, "__qualname__", "")
    if callable(value) and name and "<lambda>" not in name:
        return name
    raise ConfigError(
        f"a {type(value).__name__} cannot be part of a protocol",
        hint="describe readers and answers with frozen dataclasses and named functions",
    )


def _common(name: str, task: Task, settings: ProtocolSettings) -> dict[str, Any]:
    decoding = decoding_of(task)
    is_own = settings.name == "hf"
    resize = {"method": "bilinear", "convention": "big_vision", "antialias": task.antialias}
    return {
        "format": _FORMAT,
        "protocol": settings.name,
        "task": name,
        "prefix": task.prefix,
        "suffix": plain(task.suffix),
        "references": plain(task.references),
        "meta": list(task.meta),
        "frames": plain(task.frames),
        "separator": "alone",
        "resize": _OWN if is_own else resize,
        "final_cap": _OWN if is_own else task.final_cap,
        "attention_cap": _OWN if is_own else task.attention_cap,
        "window": _OWN if is_own else task.window,
        "decoding": {
            "method": decoding.method,
            "beams": task.beams,
            "beam_rule": decoding.beam_rule if task.beams > 1 else "",
            "max_new_tokens": decoding.max_new_tokens,
        },
        "mode": settings.mode,
        "limit": settings.limit,
        "seed": settings.seed if settings.limit is not None or settings.control else 0,
        "control": settings.control,
    }


def _readers(task: Task, split: str) -> list[Any]:
    parts = parse_splits(split)
    readers: list[tuple[str, Reader]] = [(part.name, task.splits[part.name]) for part in parts]
    return [{"split": name, "reader": plain(reader)} for name, reader in readers]


def _metric(row: Row) -> dict[str, Any]:
    return {"name": row.metric.name, "version": row.metric.version}


def _hashed(protocol: dict[str, Any]) -> dict[str, Any]:
    return protocol | {HASH: protocol_hash(protocol)}
