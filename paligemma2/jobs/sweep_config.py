"""Which runs a sweep has: all combinations of some settings, each with some seeds."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

from paligemma2.configuration import with_settings
from paligemma2.errors import ConfigError
from paligemma2.jobs.transfer_config import TransferConfig

Keep: TypeAlias = Literal["best", "all"]
LEARNING_RATES = ("3e-07", "6e-07", "1e-06", "3e-06", "6e-06", "1e-05", "3e-05")
"""Over which PaliGemma 2's transfers were tuned (arXiv:2412.03555, table 14)."""
PAPER_GRID: Mapping[str, tuple[str, ...]] = {"training.learning_rate": LEARNING_RATES}


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What `jobs.sweep.run` needs.

    Attributes:
        base: what all runs share; its output is the folder of the sweep, its seed the first one.
        grid: values to try for each setting, as text; all combinations are run. Empty for the base alone.
        seeds: runs of each combination, which differ in the seed.
        keep: "best" keeps the weights of the best run alone, "all" those of every run.

    Raises:
        ConfigError: a number makes no sense, a setting or value is wrong, or two runs would be the same.
    """

    base: TransferConfig
    grid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: int = 1
    keep: Keep = "best"

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}", hint="give a number above zero")
        if self.keep not in get_args(Keep):
            raise ConfigError(f"keep is {self.keep!r}", hint="use best or all")
        if "training.seed" in self.grid:
            raise ConfigError("the grid has training.seed", hint="use seeds for runs that differ in the seed")
        if self.base.sharded or "sharded" in self.grid:
            raise ConfigError(
                "several runs are sharded", hint="start one run after the other, each with another output"
            )
        if "output" in self.grid:
            raise ConfigError("the grid has output", hint="each run has its folder in that of the sweep")
        names = [run.config.output.name for run in planned_runs(self)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"the grid has {twice} more than once", hint="give each value once")


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run.

    Attributes:
        settings: its values of the grid, as text.
        seed: of everything random in it.
        config: of its transfer; the last part of `output` is its name.
    """

    settings: Mapping[str, str]
    seed: int
    config: TransferConfig

    @property
    def name(self) -> str:
        """As `learning-rate-3e-06_seed-1`."""
        return self.config.output.name


def planned_runs(config: SweepConfig) -> tuple[PlannedRun, ...]:
    """All runs, the seeds of one combination after each other.

    Raises:
        ConfigError: no such setting, or a value that makes no sense.
    """
    return tuple(_planned(config))


def parse_grid(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The grid that texts such as `training.dropout=0,0.1` name.

    Raises:
        ConfigError: a text has no values, or a setting comes twice.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = (part.strip() for part in text.partition("="))
        given = tuple(value.strip() for value in values.split(",") if value.strip())
        if not name or not given:
            raise ConfigError(f"{text!r} has no values", hint="write as in training.dropout=0,0.1")
        if name in grid:
            raise ConfigError(f"the grid has {name} twice", hint=f"write {name}={','.join(grid[name])},…")
        grid[name] = given
    return grid


def _planned(config: SweepConfig) -> Iterator[PlannedRun]:
    first = config.base.training.seed
    for values in itertools.product(*config.grid.values()):
        settings = dict(zip(config.grid, values, strict=True))
        changed = with_settings(config.base, [f"{name}={value}" for name, value in settings.items()])
        for seed in range(first, first + config.seeds):
            parts = [f"{_word(name)}-{_value(value)}" for name, value in settings.items()]
            if config.seeds > 1 or not settings:
                parts.append(f"seed-{seed}")
            run = replace(
                changed,
                output=config.base.output / "_".join(parts),
                training=replace(changed.training, seed=seed),
            )
            yield PlannedRun(settings=settings, seed=seed, config=run)


def _word(setting: str) -> str:
    return setting.rpartition(".")[2].replace("_", "-")


def _value(text: str) -> str:
    """The same for 3e-6 and 0.000003, and fit for the name of a folder."""
    try:
        number = float(text)
    except ValueError:
        return re.sub(r"[^\w.+-]+", "-", text)
    return str(int(number)) if number.is_integer() and abs(number) < 1e9 else repr(number)
