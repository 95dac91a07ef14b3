import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from paligemma2.errors import ConfigError, DataError, InputError, Interrupted
from paligemma2.inference.loading import load
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer import TransferConfig
from paligemma2.training.trainer import Progress
from tests.small_model import save_picture, save_small_model

BOX = "<loc0100><loc0200><loc0300><loc0400> cat"


def write_data(folder: Path, suffixes: tuple[str, ...] = ("a cat", "a dog")) -> Path:
    for part, count in (("train", 6), ("valid", 3)):
        lines = []
        for i in range(count):
            name = f"{part}{i}.png"
            save_picture(folder / name, seed=i)
            suffix = suffixes[i % len(suffixes)]
            lines.append(json.dumps({"image": name, "prefix": "what is this ?", "suffix": suffix}))
        (folder / f"_annotations.{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> TransferConfig:
    return TransferConfig(
        model=str(save_small_model(tmp_path / "small")),
        data=write_data(tmp_path / "data"),
        output=tmp_path / "new",
        steps=4,
        batch_size=3,
        num_workers=0,
        max_new_tokens=6,
    )


def quiet(name: str, progress: Progress) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def test_a_run_ends_in_an_ordinary_folder_with_the_scores_beside_the_weights(config: TransferConfig) -> None:
    events: list[str] = []
    seen: list[tuple[str, int]] = []
    report = transfer.run(
        config, lambda name, progress: seen.append((name, progress.step)), on_event=events.append
    )
    assert (report.metric, report.examples, report.output) == ("exact match", 3, config.output)
    assert seen == [("transfer", 4)]
    assert "6 examples to train on, 3 held out" in events[0]
    record = json.loads((config.output / "transfer.json").read_text(encoding="utf-8"))
    assert record["scores"] == {
        "metric": "exact match",
        "before": report.before,
        "after": report.after,
        "examples": 3,
    }
    assert record["transfer"]["steps"] == 4
    model = load(config.output, device="cpu")
    assert model.config == load(config.model, device="cpu").config
    old, new = weights(Path(config.model)), weights(config.output)
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)


def test_the_saved_model_gives_the_answers_of_the_report(config: TransferConfig) -> None:
    report = transfer.run(config, quiet)
    model = load(config.output, device="cpu")
    for sample in report.samples:
        (answer,) = model.generate(sample.example.images, sample.example.prefix, config.max_new_tokens)
        assert answer.text == sample.after


def test_what_is_trained_on_is_learnt(config: TransferConfig) -> None:
    write_data(config.data, suffixes=("dog",))
    report = transfer.run(replace(config, steps=60, learning_rate=3e-3), quiet)
    assert (report.before, report.after) == (0.0, 1.0)


def test_answers_with_boxes_are_scored_by_their_boxes(config: TransferConfig) -> None:
    write_data(config.data, suffixes=(BOX,))
    assert transfer.run(config, quiet).metric == "mean box IoU"


def test_one_answer_without_a_box_makes_it_exact_match(config: TransferConfig) -> None:
    write_data(config.data, suffixes=(BOX, BOX, "none"))
    assert transfer.run(config, quiet).metric == "exact match"


def test_no_more_examples_are_scored_than_asked_for(config: TransferConfig) -> None:
    assert transfer.run(replace(config, evaluate_examples=2), quiet).examples == 2


def test_an_output_that_exists_is_left_alone(config: TransferConfig) -> None:
    config.output.mkdir()
    (config.output / "mine").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        transfer.run(config, quiet)
    assert [path.name for path in config.output.iterdir()] == ["mine"]


def test_unusable_examples_are_told_before_any_work(config: TransferConfig) -> None:
    (config.data / "train2.png").unlink()
    with pytest.raises(DataError, match=r"line 3: the picture is missing \(train2\.png\)"):
        transfer.run(config, quiet)
    assert not config.output.exists()
    assert not config.output.with_name("new.run").exists()


def test_an_unknown_model_is_told(config: TransferConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        transfer.run(replace(config, model=str(tmp_path / "nowhere")), quiet)


def stop_at(step: int) -> transfer.ProgressCallback:
    def on_progress(name: str, progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_progress


def test_a_stopped_run_goes_on_to_the_same_weights(config: TransferConfig, tmp_path: Path) -> None:
    config = replace(config, steps=20)
    transfer.run(replace(config, output=tmp_path / "whole"), quiet)
    with pytest.raises(Interrupted, match="step 10 of 20") as caught:
        transfer.run(config, stop_at(10))
    assert caught.value.exit_code == 143
    assert not config.output.exists()
    steps: list[int] = []
    transfer.run(config, lambda name, progress: steps.append(progress.step))
    assert steps == [20]
    resumed, whole = weights(config.output), weights(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert not list(config.output.with_name("new.run").glob("step-*"))


def test_a_stopped_run_does_not_go_on_with_other_examples(config: TransferConfig) -> None:
    config = replace(config, steps=20)
    with pytest.raises(Interrupted):
        transfer.run(config, stop_at(10))
    write_data(config.data, suffixes=("another",))
    with pytest.raises(ConfigError, match="another data"):
        transfer.run(config, quiet)


def test_the_command_stops_on_sigterm_and_goes_on(config: TransferConfig) -> None:
    command = [sys.executable, "-m", "paligemma2", "transfer", "--steps=2000", "--batch-size=2"]
    command += ["--model", config.model, "--data", str(config.data), "--output", str(config.output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "step 10/" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 143, rest
    finally:
        process.kill()
        process.stderr.close()
    assert "stopped at step" in rest
    assert list(config.output.with_name("new.run").glob("step-*"))
    again = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    with again.stderr:
        first = next(line for line in again.stderr if "step " in line)
        again.kill()
        again.wait()
    assert "step 10/" not in first
