import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paligemma2.errors import ConfigError, WorkError
from paligemma2.training import checkpointing
from paligemma2.training import trainer as trainer_module
from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.optimizer import OptimizerName
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Progress, Trainer, bfloat16_is_fast
from tests.training.toy_run import Pairs, Toy, make_batch, toy_batches, toy_recipe

# Of the loader's processes, on a machine with one core and on Python 3.12 and later.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
SCRIPT = Path(__file__).with_name("toy_run.py")
DETERMINED = ("step", "steps", "loss", "learning_rate", "grad_norm")
OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "muon")


class Stopped(Exception):
    """Stands for a crash."""


def run(
    folder: Path | None,
    *,
    recipe: Recipe | None = None,
    num_workers: int = 0,
    crash_after: int | None = None,
    toy: Toy | None = None,
) -> tuple[Toy, Trainer[Pairs]]:
    toy = toy or Toy()
    trainer = Trainer(toy, recipe or toy_recipe(), toy.loss, folder=folder)

    def batches(start: int, stop: int) -> Iterator[Pairs]:
        for step, batch in enumerate(toy_batches(num_workers)(start, stop), start):
            if step == crash_after:
                raise Stopped
            yield batch

    trainer.fit(batches)
    return toy, trainer


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in DETERMINED} for line in lines]


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "log.jsonl")


def assert_equal_weights(a: nn.Module, b: nn.Module) -> None:
    for (name, one), (_, other) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def assert_equal_states(a: Path, b: Path) -> None:
    one, other = load_newest_state(a), load_newest_state(b)
    assert one is not None
    assert other is not None
    assert (one.step, one.values) == (other.step, other.values)
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name


# Learning.


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loss_goes_down(tmp_path: Path, optimizer: OptimizerName) -> None:
    run(tmp_path, recipe=toy_recipe(optimizer, steps=150))
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert losses[-1] < 0.25 * losses[0]


def test_the_log_and_the_callback_tell_the_same(tmp_path: Path) -> None:
    seen: list[Progress] = []
    toy = Toy()
    Trainer(toy, toy_recipe(steps=12), toy.loss, folder=tmp_path, on_progress=seen.append).fit(toy_batches())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [dataclasses.asdict(progress) for progress in seen]
    assert [progress.step for progress in seen] == [5, 10, 12]
    assert all(progress.examples_per_second > 0 for progress in seen)


def test_a_line_of_the_log_has_the_mean_loss_since_the_one_before(tmp_path: Path) -> None:
    run(tmp_path / "coarse", recipe=toy_recipe(steps=10))
    run(tmp_path / "fine", recipe=dataclasses.replace(toy_recipe(steps=10), log_every=1))
    fine = [line["loss"] for line in log_of(tmp_path / "fine")]
    means = [sum(fine[:5]) / 5, sum(fine[5:]) / 5]
    assert [line["loss"] for line in log_of(tmp_path / "coarse")] == pytest.approx(means)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(None)
    assert list(tmp_path.iterdir()) == []


def test_afterwards_the_module_holds_the_averaged_weights_and_is_in_eval_mode() -> None:
    toy, trainer = run(None)
    assert trainer.average is not None
    assert all(torch.equal(p, trainer.average.weights[name]) for name, p in toy.named_parameters())
    assert not toy.training
    plain, _ = run(None, recipe=dataclasses.replace(toy_recipe(), average_decay=None))
    assert not torch.equal(plain.head.weight, toy.head.weight)


def test_frozen_parameters_stay_as_they_are(tmp_path: Path) -> None:
    toy = Toy()
    toy.head.requires_grad_(False)
    before = toy.head.weight.clone()
    run(tmp_path, toy=toy)
    assert torch.equal(toy.head.weight, before)


def test_with_everything_frozen_there_is_nothing_to_train() -> None:
    toy = Toy().requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter is trainable"):
        Trainer(toy, toy_recipe(), toy.loss)


def test_a_long_gradient_is_cut_to_the_largest_norm() -> None:
    norms = []
    toy = Toy()
    recipe = dataclasses.replace(toy_recipe(steps=3), grad_clip=0.01, log_every=1)
    before_clip: list[float] = []
    trainer = Trainer(toy, recipe, toy.loss, on_progress=lambda p: before_clip.append(p.grad_norm))
    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(
            lambda *_: norms.append(torch.cat([p.grad.flatten() for p in toy.parameters()]).norm().item())  # type: ignore[union-attr]
        )
    trainer.fit(toy_batches())
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)
    assert min(before_clip) > 0.1


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    recipe = dataclasses.replace(toy_recipe("muon"), log_every=1, warmup_fraction=0.2)
    _, trainer = run(tmp_path, recipe=recipe)
    rates = [line["learning_rate"] for line in log_of(tmp_path)]
    assert rates[:5] == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02])
    assert rates[12] == pytest.approx(0.01)
    assert rates[-1] < 0.001
    muon, adamw = (optimizer.param_groups[0]["lr"] for optimizer in reversed(trainer.optimizers))
    assert muon == pytest.approx(adamw * 0.5)


# Precision.


@pytest.mark.parametrize("is_fast", [False, True])
def test_products_run_in_bfloat16_only_where_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    monkeypatch.setattr(trainer_module, "bfloat16_is_fast", lambda device: is_fast)
    toy, seen = Toy(), []

    def objective(batch: Pairs) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), toy.head(batch[0]).dtype))
        return toy.loss(batch)

    Trainer(toy, toy_recipe(steps=2), objective).fit(toy_batches())
    assert seen == [(is_fast, torch.bfloat16 if is_fast else torch.float32)] * 2
    assert all(p.dtype == torch.float32 for p in toy.parameters())


@pytest.mark.parametrize("has", ["nothing", "avx512", "amx"])
def test_a_processor_is_fast_if_it_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch, has: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has == "avx512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has == "amx")
    assert bfloat16_is_fast(torch.device("cpu")) == (has != "nothing")
    assert not bfloat16_is_fast(torch.device("meta"))


# Going on.


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_exact(tmp_path: Path, optimizer: OptimizerName, num_workers: int) -> None:
    """The crash comes two updates after the state of step 12 and one log line; both are done again."""
    recipe = toy_recipe(optimizer)
    straight, _ = run(tmp_path / "straight", recipe=recipe)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", recipe=recipe, num_workers=num_workers, crash_after=15)
    assert states(tmp_path / "stopped") == ["step-0000008", "step-0000012"]
    resumed, _ = run(tmp_path / "stopped", recipe=recipe, num_workers=num_workers)
    assert_equal_weights(resumed, straight)
    assert_equal_states(tmp_path / "stopped", tmp_path / "straight")
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "straight")


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first, _ = run(tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    again, trainer = run(tmp_path, crash_after=0)
    assert trainer.step == 20
    assert_equal_weights(again, first)
    assert (tmp_path / "log.jsonl").read_text() == log


def test_two_states_are_kept(tmp_path: Path) -> None:
    run(tmp_path)
    assert states(tmp_path) == ["step-0000016", "step-0000020"]


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.01}, {"steps": 30}, {"optimizer": "muon"}, {"average_decay": None}],
    ids=str,
)
def test_another_recipe_does_not_go_on(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ConfigError, match=f"another {next(iter(change))}"):
        run(tmp_path, recipe=dataclasses.replace(toy_recipe(), **change))
    assert states(tmp_path) == ["step-0000016", "step-0000020"]
    assert (tmp_path / "log.jsonl").read_text() == before


def test_another_identity_does_not_go_on(tmp_path: Path) -> None:
    toy = Toy()
    Trainer(toy, toy_recipe(), toy.loss, folder=tmp_path, identity={"data": "a"}).fit(toy_batches())
    with pytest.raises(ConfigError, match="another data"):
        Trainer(toy, toy_recipe(), toy.loss, folder=tmp_path, identity={"data": "b"}).fit(toy_batches())


@pytest.mark.parametrize("head", [nn.Linear(6, 3), nn.Linear(6, 2, bias=False)])
def test_another_module_does_not_go_on(tmp_path: Path, head: nn.Linear) -> None:
    run(tmp_path)
    toy = Toy()
    toy.head = head
    with pytest.raises(ConfigError, match=r"another model \(first difference: module\.head"):
        run(tmp_path, toy=toy)


def test_a_damaged_newest_state_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    straight, _ = run(tmp_path / "straight")
    with pytest.raises(Stopped):
        run(tmp_path / "run", crash_after=18)
    newest = tmp_path / "run" / "step-0000016" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    with caplog.at_level(logging.WARNING):
        resumed, _ = run(tmp_path / "run")
    assert "step-0000016 is damaged and passed over" in caplog.text
    assert_equal_weights(resumed, straight)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "straight")


# Failing.


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_its_states(tmp_path: Path, value: float) -> None:
    toy = Toy()
    trainer: Trainer[Pairs]

    def objective(batch: Pairs) -> Tensor:
        return toy.loss(batch) * (value if trainer.step == 10 else 1.0)

    trainer = Trainer(toy, toy_recipe(), objective, folder=tmp_path)
    with pytest.raises(WorkError, match=f"the loss is {value} at step 10") as raised:
        trainer.fit(toy_batches())
    assert raised.value.exit_code == 1
    state = load_newest_state(tmp_path)
    assert state is not None
    assert state.step == 8
    assert all(tensor.isfinite().all() for tensor in state.tensors.values())


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(tmp_path: Path) -> None:
    """The square root at zero: a finite loss whose gradient is not."""
    toy = Toy()

    def objective(batch: Pairs) -> Tensor:
        return toy.loss(batch) + (toy.head.weight - toy.head.weight).sum().sqrt()

    trainer = Trainer(toy, toy_recipe(), objective, folder=tmp_path)
    with pytest.raises(WorkError, match="the norm of the gradient is nan at step 0"):
        trainer.fit(toy_batches())
    assert_equal_weights(toy, Toy())
    assert not tmp_path.joinpath("step-0000001").exists()


def test_a_full_disk_loses_nothing_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = run(tmp_path / "straight")

    def fill_up(tensors: dict[str, Tensor], path: Path) -> None:
        if "0000012" in str(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "save_file", fill_up)
        with pytest.raises(WorkError, match="disk is full"):
            run(tmp_path / "run")
    assert states(tmp_path / "run") == ["step-0000004", "step-0000008"]
    resumed, _ = run(tmp_path / "run")
    assert_equal_weights(resumed, straight)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "straight")


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the place of the folder")
    with pytest.raises(WorkError):
        run(tmp_path / "run")


# Signals, to a real process.


def start(*arguments: str, group: bool = False) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=group,
    )


def wait_for_steps(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        count -= line == "step\n"
        if count == 0:
            return
    pytest.fail(f"the run ended early: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("number", "optimizer", "num_workers"),
    [(signal.SIGINT, "adamw", 0), (signal.SIGTERM, "muon", 0), (signal.SIGINT, "muon", 2)],
)
def test_a_stopped_run_is_saved_and_goes_on_exactly(
    tmp_path: Path, number: int, optimizer: OptimizerName, num_workers: int
) -> None:
    """With workers the signal goes to all processes, as Ctrl-C in a terminal does."""
    process = start(str(tmp_path / "run"), optimizer, str(num_workers), group=True)
    wait_for_steps(process, 7)
    if num_workers:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "run the same command again to go on" in output
    assert errors == ""
    saved = load_newest_state(tmp_path / "run")
    assert saved is not None
    assert f"stopped at step {saved.step} of 5000, saved in {tmp_path / 'run'}" in output
    assert saved.step >= 6
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]

    recipe = toy_recipe(optimizer, 5000)
    for folder in (tmp_path / "run", tmp_path / "straight"):
        with pytest.raises(Stopped):
            run(folder, recipe=recipe, crash_after=(saved.step // 4 + 2) * 4)
    assert_equal_states(tmp_path / "run", tmp_path / "straight")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "straight")


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    process = start(str(tmp_path), "adamw", "0", "slow")
    wait_for_steps(process, 4)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.7)
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 40:  # the step itself takes 60 seconds
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    assert process.returncode is not None
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


def test_batches_of_the_toy_are_a_pure_function_of_the_step() -> None:
    assert all(torch.equal(a, b) for a, b in zip(make_batch(3), make_batch(3), strict=True))
