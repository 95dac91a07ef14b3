from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from paligemma2.configuration import setting_names, with_settings
from paligemma2.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    rank: int = 8
    dropout: float = 0.0
    is_on: bool = True
    names: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["one", "two"] = "one"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank is {self.rank}", hint="give more")


@dataclass(frozen=True, kw_only=True)
class Whole:
    steps: int = 1
    limit: int | None = None
    folder: Path = Path("here")
    part: Part = field(default_factory=Part)
    other: Part | None = None


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("steps=5", Whole(steps=5)),
        ("limit=7", Whole(limit=7)),
        ("limit=none", Whole()),
        ("folder=there", Whole(folder=Path("there"))),
        ("part.dropout=1e-3", Whole(part=Part(dropout=1e-3))),
        ("part.is_on=false", Whole(part=Part(is_on=False))),
        ("part.names=a, b", Whole(part=Part(names=("a", "b")))),
        ("part.names=", Whole()),
        (r"part.ranks=a:1,mlp\.(up|down):2", Whole(part=Part(ranks={"a": 1, r"mlp\.(up|down)": 2}))),
        ("part.kind=two", Whole(part=Part(kind="two"))),
        ("other.rank=4", Whole(other=Part(rank=4))),
        ("other.rank = 4", Whole(other=Part(rank=4))),
    ],
    ids=str,
)
def test_a_setting_is_read_by_the_type_of_its_field(setting: str, expected: Whole) -> None:
    assert with_settings(Whole(), [setting]) == expected


def test_settings_add_up_and_the_last_of_a_name_counts() -> None:
    changed = with_settings(Whole(), ["other.rank=4", "other.dropout=0.5", "steps=2", "steps=3"])
    assert changed == Whole(steps=3, other=Part(rank=4, dropout=0.5))


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("steps", "'steps' has no value", "name=value"),
        ("stepps=3", "there is no setting 'stepps'", "did you mean steps?"),
        ("rank=3", "there is no setting 'rank'", "did you mean part.rank?"),
        ("part.rnak=3", "there is no setting 'part.rnak'", "did you mean part.rank?"),
        ("other.dropuot=3", "there is no setting 'other.dropuot'", "did you mean other.dropout?"),
        ("wrong.dropout=3", "there is no setting 'wrong.dropout'", "did you mean part.dropout?"),
        ("part=3", "there is no setting 'part'", "did you mean"),
        ("steps.more=3", "there is no setting 'steps.more'", ""),
        ("zzz=3", "there is no setting 'zzz'", "known: steps, limit"),
        ("steps=3.5", "steps is '3.5'", "a whole number"),
        ("part.dropout=much", "part.dropout is 'much'", "a number"),
        ("part.is_on=perhaps", "part.is_on is 'perhaps'", "true or false"),
        ("part.kind=three", "part.kind is 'three'", "one, two"),
        ("part.ranks=a:x", "part.ranks is 'x'", "a whole number"),
        ("part.ranks=3", "part.ranks is '3'", "part.ranks=a:1,b:2"),
        ("part.rank=0", "rank is 0", "give more"),
    ],
    ids=str,
)
def test_what_cannot_be_set_is_refused_by_name_and_value(setting: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        with_settings(Whole(), [setting])
    assert raised.value.message == message
    assert hint in raised.value.hint


def test_settings_that_need_each_other_may_come_in_any_order() -> None:
    @dataclass(frozen=True)
    class Range:
        low: int = 0
        high: int = 1

        def __post_init__(self) -> None:
            if self.low >= self.high:
                raise ConfigError(f"{self.low} to {self.high}", hint="give more")

    assert with_settings(Range(), ["low=5", "high=9"]) == with_settings(Range(), ["high=9", "low=5"])
    with pytest.raises(ConfigError, match="5 to 1"):
        with_settings(Range(), ["low=5"])


def test_all_names_can_be_listed() -> None:
    names = setting_names(Whole())
    assert names[:3] == ("steps", "limit", "folder")
    assert {"part.rank", "other.kind"} <= set(names)
    settings: dict[str, Any] = {"steps": 2, "part.rank": 3}
    assert with_settings(Whole(), [f"{name}={value}" for name, value in settings.items()]).part.rank == 3
