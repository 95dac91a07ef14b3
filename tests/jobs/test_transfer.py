import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from paligemma2.configuration import with_settings
from paligemma2.errors import ConfigError, DataError, InputError, Interrupted
from paligemma2.inference.loading import load
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.jobs.transfer_evaluation import Evaluation, Evaluator
from paligemma2.model.siglip import SiglipEncoder
from paligemma2.training.run_log import EVALUATIONS, read_log
from tests.small_transfer import quiet, small_transfer, stop_at, write_rows

BOX = "<loc0100><loc0200><loc0300><loc0400> cat"


@pytest.fixture
def config(tmp_path: Path) -> TransferConfig:
    return small_transfer(tmp_path, checkpoint_every=10)


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
    assert "4 updates of 3 from 6 examples, 3 held out" in events[0]
    record = json.loads((config.output / "transfer.json").read_text(encoding="utf-8"))
    assert record["scores"] == {
        "metric": "exact match",
        "before": report.before,
        "after": report.after,
        "examples": 3,
        "steps": 4,
    }
    assert record["transfer"]["training"]["steps"] == 4
    model = load(config.output, device="cpu")
    assert model.config == load(config.model, device="cpu").config
    old, new = weights(Path(config.model)), weights(config.output)
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)


def test_the_saved_model_gives_the_answers_of_the_report(config: TransferConfig) -> None:
    report = transfer.run(config, quiet)
    model = load(config.output, device="cpu", for_training=True)  # the same kernels: some tokens nearly tie
    examples = [sample.example for sample in report.samples]
    written = model.generate([each.images for each in examples], [each.prefix for each in examples], 6)
    assert [answer.text for answer in written] == [sample.after for sample in report.samples]


def test_what_is_trained_on_is_learnt(config: TransferConfig) -> None:
    write_rows(config.data, suffixes=("dog",))
    report = transfer.run(with_settings(config, ["training.steps=60", "training.learning_rate=3e-3"]), quiet)
    assert (report.before, report.after) == (0.0, 1.0)


def test_answers_with_boxes_are_scored_by_their_boxes(config: TransferConfig) -> None:
    write_rows(config.data, suffixes=(BOX,))
    assert transfer.run(config, quiet).metric == "mean box IoU"


def test_one_answer_without_a_box_makes_it_exact_match(config: TransferConfig) -> None:
    write_rows(config.data, suffixes=(BOX, BOX, "none"))
    assert transfer.run(config, quiet).metric == "exact match"


def test_no_more_examples_are_scored_than_asked_for(config: TransferConfig) -> None:
    assert transfer.run(with_settings(config, ["evaluation.examples=2"]), quiet).examples == 2


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.freeze=decoder,image"], "no parameter is trainable"),
        (["training.freeze=decoder", "lora.rank=2"], "no parameter is trainable"),
        (["training.freeze=decodr"], "no parameter of the model is in 'decodr'"),
        (["image_cache_gb=0.1"], "the image encoder is trained"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_model_are_told_before_anything_is_scored(
    config: TransferConfig, settings: list[str], message: str
) -> None:
    events: list[str] = []
    with pytest.raises(ConfigError, match=message):
        transfer.run(with_settings(config, settings), quiet, events.append)
    assert "scoring the start" not in events


def test_an_unknown_model_is_told(config: TransferConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        transfer.run(replace(config, model=str(tmp_path / "nowhere")), quiet)


def test_a_stopped_run_goes_on_to_the_same_weights(config: TransferConfig, tmp_path: Path) -> None:
    config = with_settings(config, ["training.steps=20"])
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
    config = with_settings(config, ["training.steps=20"])
    with pytest.raises(Interrupted):
        transfer.run(config, stop_at(10))
    write_rows(config.data, suffixes=("another",))
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


# What is trained, and how.


def changed_parts(config: TransferConfig) -> set[str]:
    transfer.run(config, quiet)
    old, new = weights(Path(config.model)), weights(config.output)
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


def test_frozen_parts_stay_as_they_are(config: TransferConfig) -> None:
    assert changed_parts(with_settings(config, ["training.freeze=image"])) == {"language_model"}


def test_an_adapter_is_trained_and_written_as_peft_does(config: TransferConfig) -> None:
    config = with_settings(config, ["lora.rank=2", "training.learning_rate=3e-2", "training.steps=60"])
    write_rows(config.data, suffixes=("dog",))
    report = transfer.run(config, quiet)
    assert (report.before, report.after) == (0.0, 1.0)
    assert {path.name for path in config.output.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "transfer.json",
    }
    sample = report.samples[0]
    with_adapter = load(config.model, adapter=config.output, device="cpu", dtype="float32")
    (answer,) = with_adapter.generate(sample.example.images, sample.example.prefix, 6)
    assert answer.text == sample.after


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_an_adapter_learns_on_weights_of_few_bits(config: TransferConfig, bits: str) -> None:
    settings = [f"quantize={bits}", "lora.rank=4", "training.learning_rate=3e-2", "training.steps=60"]
    write_rows(config.data, suffixes=("dog",))
    report = transfer.run(with_settings(config, ["lora.rank=4", *settings]), quiet)
    assert report.after == 1.0


@pytest.mark.parametrize(
    "settings", [["training.micro_batch_size=1"], ["training.packed_length=40"]], ids=str
)
def test_parts_and_packed_rows_learn_the_same(
    config: TransferConfig, tmp_path: Path, settings: list[str]
) -> None:
    config = with_settings(config, ["training.precision=float32", "training.grad_clip=1e9"])
    transfer.run(config, quiet)
    transfer.run(replace(with_settings(config, settings), output=tmp_path / "other"), quiet)
    old, one, other = (weights(path) for path in (Path(config.model), config.output, tmp_path / "other"))
    for name in one:
        if name.endswith(
            "k_proj.bias"
        ):  # has no gradient: softmax does not see what is the same for all keys
            continue
        moved = (one[name] - old[name]).norm()
        assert (one[name] - other[name]).norm() <= 0.02 * moved + 1e-6, name


def test_dropout_is_part_of_the_training_alone(config: TransferConfig, tmp_path: Path) -> None:
    transfer.run(config, quiet)
    dropped = replace(with_settings(config, ["training.dropout=0.5"]), output=tmp_path / "dropped")
    report = transfer.run(dropped, quiet)
    assert any(
        not torch.equal(a, weights(config.output)[name]) for name, a in weights(dropped.output).items()
    )
    assert report.before == transfer.run(replace(config, output=tmp_path / "again"), quiet).before


def test_the_image_encoder_runs_once_for_each_picture_where_outputs_are_kept(
    config: TransferConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    forward = SiglipEncoder.forward

    def counting(self: SiglipEncoder, pixel_values: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixel_values) if self.training else 0)
        return forward(self, pixel_values)

    monkeypatch.setattr(SiglipEncoder, "forward", counting)
    settings = ["training.freeze=vision_tower", "image_cache_gb=0.1", "training.steps=8"]
    transfer.run(with_settings(config, settings), quiet)
    assert sum(encoded) == 6


# Scores on the way.


@pytest.mark.parametrize(
    ("settings", "expected"), [([], [0, 2, 4]), (["training.average_decay=0.5"], [0, 2, 4, 4])]
)
def test_weights_are_scored_once(
    config: TransferConfig, monkeypatch: pytest.MonkeyPatch, settings: list[str], expected: list[int]
) -> None:
    """After the last update only if the average has taken the place of its weights."""
    measured: list[int] = []
    measure = Evaluator.measure

    def counting(self: Evaluator, step: int) -> tuple[Evaluation, list[str]]:
        measured.append(step)
        return measure(self, step)

    monkeypatch.setattr(Evaluator, "measure", counting)
    transfer.run(with_settings(config, ["evaluation.every=2", "evaluation.keep=last", *settings]), quiet)
    assert measured == expected


def test_the_best_weights_are_kept_and_the_run_tells_so(
    config: TransferConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that fall after the first evaluation: what is written is the model of that one."""
    scores = {0: 0.1, 2: 0.9, 4: 0.5}
    written: dict[int, dict[str, torch.Tensor]] = {}
    measure = Evaluator.measure

    def measured(self: Evaluator, step: int) -> tuple[Evaluation, list[str]]:
        evaluation, answers = measure(self, step)
        written[step] = {name: p.detach().clone() for name, p in self.predictor.model.named_parameters()}
        return replace(evaluation, score=scores[step]), answers

    monkeypatch.setattr(Evaluator, "measure", measured)
    events: list[str] = []
    report = transfer.run(with_settings(config, ["evaluation.every=2"]), quiet, events.append)
    assert (report.steps, report.after) == (2, 0.9)
    assert any("the weights of step 2 were better (0.900) than the last (0.500)" in event for event in events)
    saved = load(config.output, device="cpu", dtype="float32", for_training=True).model
    for name, parameter in saved.named_parameters():
        assert torch.equal(parameter, written[2][name]), name
    assert not (config.run_folder / "best").exists()


def test_a_run_ends_early_when_nothing_gets_better(config: TransferConfig) -> None:
    settings = ["evaluation.every=1", "evaluation.patience=2", "training.steps=50"]
    settings += ["training.learning_rate=1e-12"]
    report = transfer.run(with_settings(config, settings), quiet)
    lines = read_log(config.run_folder, EVALUATIONS)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert report.steps == 3
    assert all(line["loss"] > 0 for line in lines)


# Its folder.


def test_the_folder_of_a_run_tells_what_it_is(config: TransferConfig) -> None:
    transfer.run(with_settings(config, ["epochs=2"]), quiet)
    record = json.loads((config.run_folder / "run.json").read_text())
    assert record["transfer"]["training"]["steps"] == 4  # 2 epochs of 6 examples in batches of 3
    assert record["transfer"]["training"]["seed"] == 0
    assert record["examples"] == 6
    assert len(record["data"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert [line["step"] for line in read_log(config.run_folder)] == [4]


def test_skipped_examples_and_cut_answers_are_in_the_log(config: TransferConfig) -> None:
    (config.data / "train2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be used"):
        transfer.run(with_settings(config, ["training.steps=4"]), quiet)
    shutil.rmtree(config.run_folder)
    settings = ["rules.faults=skip", "rules.text_length=7", "training.steps=4"]
    transfer.run(with_settings(config, settings), quiet)
    last = read_log(config.run_folder)[-1]
    assert last["skipped_examples"] >= 2  # once in each of two epochs, and where it was drawn instead
    assert last["cut_suffixes"] == 12


def test_a_cap_is_dropped_where_the_recipe_says_so(config: TransferConfig) -> None:
    assert load(config.model).config.text.final_cap is not None
    transfer.run(replace(config, has_final_cap=False), quiet)
    assert load(config.output).config.text.final_cap is None
