from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import ConfigError
from paligemma2.jobs.sweep_config import PAPER_GRID, SweepConfig, parse_grid, planned_runs
from paligemma2.jobs.transfer_config import TransferConfig

BASE = TransferConfig(model="tiny", data=Path("my_data"), output=Path("out"))


def names(grid: Mapping[str, tuple[str, ...]], seeds: int = 1) -> list[str]:
    return [run.name for run in planned_runs(SweepConfig(base=BASE, grid=grid, seeds=seeds))]


def test_seeds_alone_differ_in_the_seed() -> None:
    base = replace(BASE, training=replace(BASE.training, seed=3))
    runs = planned_runs(SweepConfig(base=base, seeds=2))
    assert [run.name for run in runs] == ["seed-3", "seed-4"]
    assert [run.config.training.seed for run in runs] == [3, 4]
    assert [run.config.output for run in runs] == [Path("out/seed-3"), Path("out/seed-4")]
    assert all(replace(run.config, training=base.training, output=base.output) == base for run in runs)


def test_the_grid_of_the_paper_has_its_seven_learning_rates() -> None:
    runs = planned_runs(SweepConfig(base=BASE, grid=PAPER_GRID))
    rates = [run.config.training.learning_rate for run in runs]
    assert rates == [3e-7, 6e-7, 1e-6, 3e-6, 6e-6, 1e-5, 3e-5]
    assert runs[3].name == "learning-rate-3e-06"


def test_several_settings_give_all_combinations_each_with_its_seeds() -> None:
    grid = {"training.label_smoothing": ("0", "0.1"), "training.dropout": ("0", "0.30")}
    assert names(grid, seeds=2) == [
        f"label-smoothing-{smoothing}_dropout-{dropout}_seed-{seed}"
        for smoothing in ("0", "0.1")
        for dropout in ("0", "0.3")
        for seed in (0, 1)
    ]
    last = planned_runs(SweepConfig(base=BASE, grid=grid))[-1]
    assert (last.config.training.label_smoothing, last.config.training.dropout) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("3e-6", "3e-06"),
        ("0.000003", "3e-06"),
        ("16", "16"),
        ("big/../vision", "big-..-vision"),
        ("none", "none"),
    ],
)
def test_names_of_folders_are_plain(value: str, name: str) -> None:
    assert names({"model": (value,)}) == [f"model-{name}"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"training.learning_rat": ("1",)}, "did you mean .*learning_rate"),
        ({"training.dropout": ("0", "2")}, "dropout is 2"),
        ({"training.dropout": ("0.1", "0.10")}, "dropout-0.1 more than once"),
        ({"training.seed": ("1", "2")}, "use seeds"),
        ({"output": ("a", "b")}, "the grid has output"),
        ({"sharded": ("true",)}, "several runs are sharded"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_before_any_run(
    grid: Mapping[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepConfig(base=BASE, grid=grid)


def test_numbers_and_words_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="seeds is 0"):
        SweepConfig(base=BASE, seeds=0)
    with pytest.raises(ConfigError, match="use best or all"):
        SweepConfig(base=BASE, keep="some")  # type: ignore[arg-type]


def test_a_grid_is_read_from_text() -> None:
    assert parse_grid(["training.dropout=0, 0.1", "lora.rank=8"]) == {
        "training.dropout": ("0", "0.1"),
        "lora.rank": ("8",),
    }


@pytest.mark.parametrize("texts", [["training.dropout"], ["training.dropout="], ["=1"], ["a=1", "a=2"]])
def test_text_that_is_no_grid_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"has no values|twice"):
        parse_grid(texts)
