import json
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import CheckpointError, ConfigError, DataError, InputError, Interrupted
from paligemma2.inference.loading import load
from paligemma2.jobs import sweep
from paligemma2.jobs.sweep_config import SweepConfig
from tests.small_transfer import quiet, small_transfer, stop_at

RATE = "training.learning_rate"


@pytest.fixture
def config(tmp_path: Path) -> SweepConfig:
    return SweepConfig(base=small_transfer(tmp_path), seeds=2)


def model_files(config: SweepConfig) -> list[str]:
    return sorted(path.parent.name for path in config.base.output.glob("*/*.safetensors"))


def test_every_seed_is_run_in_its_folder_and_the_table_has_all(config: SweepConfig) -> None:
    report = sweep.run(replace(config, keep="all"), quiet)
    (row,) = report.rows
    assert [run.name for run in row.runs] == ["seed-0", "seed-1"]
    assert model_files(config) == ["seed-0", "seed-1"]
    for run in row.runs:
        record = json.loads((config.base.output / run.name / "transfer.json").read_text())
        assert (record["transfer"]["training"]["seed"], record["scores"]["after"]) == (run.seed, run.score)
        assert (config.base.output / f"{run.name}.run" / "report.html").is_file()
    table = json.loads((config.base.output / "sweep.json").read_text())
    assert (table["metric"], table["rows"][0]["mean"]) == ("exact match", row.mean)
    assert "| before | seed 0 | seed 1 | mean exact match | deviation |" in (
        config.base.output / "sweep.md"
    ).read_text(encoding="utf-8")
    assert (config.base.output / "sweep.csv").read_text().startswith("before,seed 0,seed 1,")
    assert not list(config.base.output.glob("*.run/step-*"))


def test_the_score_of_the_start_is_measured_once(config: SweepConfig) -> None:
    events: list[str] = []
    sweep.run(config, quiet, events.append)
    assert events.count("scoring the start") == 1
    assert events.count("scoring the result") == 2


def test_the_best_combination_comes_first_and_its_weights_alone_are_kept(tmp_path: Path) -> None:
    base = small_transfer(tmp_path, ("dog",), steps=60)
    config = SweepConfig(base=base, grid={RATE: ("1e-9", "3e-3")})
    report = sweep.run(config, quiet)
    assert [row.settings[RATE] for row in report.rows] == ["3e-3", "1e-9"]
    assert [row.mean for row in report.rows] == [1.0, 0.0]
    assert report.best is not None
    assert (report.best.name, report.best.has_weights) == ("learning-rate-0.003", True)
    assert model_files(config) == ["learning-rate-0.003"]
    assert [path.name for path in (base.output / "learning-rate-1e-09").iterdir()] == ["transfer.json"]
    (answer,) = load(base.output / report.best.name, device="cpu").generate(
        tmp_path / "data" / "valid0.png", "what is this ?", 6
    )
    assert answer.text == "dog"


def test_a_stopped_sweep_goes_on_where_it_was(config: SweepConfig, tmp_path: Path) -> None:
    long = replace(config, base=replace(config.base, training=replace(config.base.training, steps=20)))
    with pytest.raises(Interrupted, match="step 10 of 20"):
        sweep.run(long, stop_at(10, "seed-1"))
    seen: list[tuple[str, int]] = []
    events: list[str] = []
    report = sweep.run(long, lambda name, progress: seen.append((name, progress.step)), events.append)
    assert seen == [("seed-1", 20)]
    assert "run 1 of 2: seed-0 is finished" in events
    assert [run.score is not None for run in report.rows[0].runs] == [True, True]


def test_a_finished_sweep_runs_nothing_and_gives_the_same_table(config: SweepConfig) -> None:
    first = sweep.run(config, quiet)
    assert sweep.run(config, lambda name, progress: pytest.fail("a run was repeated")) == first


def test_a_run_that_fails_is_recorded_and_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    base = small_transfer(tmp_path, steps=12)
    config = SweepConfig(base=base, grid={RATE: ("1e30", "1e-4")})
    report = sweep.run(config, quiet)
    (failed,) = report.failed
    assert failed.name == "learning-rate-1e+30"
    assert "updates in a row were left out" in failed.error
    assert [row.settings[RATE] for row in report.rows] == ["1e-4", "1e30"]
    markdown = (base.output / "sweep.md").read_text(encoding="utf-8")
    assert "| 1e30 |" in markdown
    assert f"failed: {failed.error}" in markdown
    page = (base.output / "learning-rate-1e+30.run" / "report.html").read_text(encoding="utf-8")
    assert "Failed: the loss is" in page
    started: list[str] = []
    sweep.run(config, quiet, started.append)
    assert "run 1 of 2: learning-rate-1e+30" in started
    assert "run 2 of 2: learning-rate-0.0001 is finished" in started


def test_what_would_fail_in_every_run_ends_the_sweep_at_once(config: SweepConfig, tmp_path: Path) -> None:
    nowhere = replace(config, base=replace(config.base, data=tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        sweep.run(nowhere, quiet)
    unknown = replace(config, base=replace(config.base, model=str(tmp_path / "nothing")))
    with pytest.raises((InputError, CheckpointError), match="nothing"):
        sweep.run(unknown, quiet)


def test_finished_runs_with_other_settings_are_not_taken_for_these(config: SweepConfig) -> None:
    sweep.run(config, quiet)
    other = replace(config, base=replace(config.base, training=replace(config.base.training, steps=5)))
    with pytest.raises(ConfigError, match="seed-0 was run with another training"):
        sweep.run(other, quiet)


def test_scores_on_other_held_out_examples_are_told_not_to_compare(config: SweepConfig) -> None:
    events: list[str] = []
    sweep.run(replace(config, seeds=1), quiet, events.append)
    assert not any("do not compare" in event for event in events)
    assert isinstance(config.base.data, Path)
    held_out = config.base.data / "_annotations.valid.jsonl"
    held_out.write_text(held_out.read_text().replace("a cat", "a dog"))
    sweep.run(config, quiet, events.append)
    assert events.count("scoring the start") == 2
    assert any("do not compare" in event for event in events)


def test_what_is_not_a_sweep_is_left_alone(config: SweepConfig) -> None:
    config.base.output.mkdir()
    (config.base.output / "mine").write_text("mine")
    with pytest.raises(InputError, match="is not of a sweep"):
        sweep.run(config, quiet)
    assert [path.name for path in config.base.output.iterdir()] == ["mine"]
