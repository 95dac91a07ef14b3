import dataclasses
import json
import logging
import math
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
from paligemma2.training.recipe import OptimizerName
from paligemma2.training.trainer import Progress, Trainer, bfloat16_is_fast
from tests.training.toy_run import (
    Pairs,
    Stopped,
    Toy,
    assert_equal_states,
    assert_equal_weights,
    log_of,
    make_batch,
    run,
    states,
    toy_batches,
    toy_recipe,
)

# Of the loader's processes, on Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "muon")


# Learning.


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loss_goes_down(tmp_path: Path, optimizer: OptimizerName) -> None:
    run(tmp_path, recipe=toy_recipe(optimizer, steps=150))
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert losses[-1] < 0.25 * losses[0]


def test_the_log_and_the_callback_tell_the_same(tmp_path: Path) -> None:
    toy, recipe, seen = Toy(), toy_recipe(steps=12), list[Progress]()
    tell = {"on_progress": seen.append, "on_step": lambda step: bool(time.sleep(0.2))}
    Trainer(toy, recipe, toy.loss, folder=tmp_path, **tell).fit(toy_batches())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [dataclasses.asdict(progress) for progress in seen]
    assert [progress.step for progress in seen] == [5, 10, 12]
    # An evaluation after an update, here the pause, is no slow training.
    assert all(progress.examples_per_second > 8 * recipe.batch_size for progress in seen)


def test_a_line_of_the_log_has_the_mean_loss_since_the_one_before(tmp_path: Path) -> None:
    run(tmp_path / "coarse", recipe=toy_recipe(steps=10))
    run(tmp_path / "fine", recipe=dataclasses.replace(toy_recipe(steps=10), log_every=1))
    fine = [line["loss"] for line in log_of(tmp_path / "fine")]
    means = [sum(fine[:5]) / 5, sum(fine[5:]) / 5]
    assert [line["loss"] for line in log_of(tmp_path / "coarse")] == pytest.approx(means)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(None)
    assert not any(tmp_path.iterdir())


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
    for optimizer in trainer.update.optimizers:
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
    assert rates[:5] == pytest.approx([0.0, 0.005, 0.01, 0.015, 0.02])
    assert rates[12] == pytest.approx(0.01)
    assert rates[-1] < 0.001
    muon, adamw = (optimizer.param_groups[0]["lr"] for optimizer in reversed(trainer.update.optimizers))
    assert muon == pytest.approx(adamw * 0.5)


def test_parts_of_a_batch_add_up_to_the_gradient_of_the_whole() -> None:
    """Uneven parts, weighed by their rows: the mean over all rows is what a whole batch gives."""

    def split(batch: Pairs) -> list[Pairs]:
        return [tuple(part) for part in zip(*(each.split(5) for each in batch), strict=True)]  # type: ignore[misc]

    gradients: list[list[Tensor]] = []
    for how in ({}, {"split": split, "weigh": lambda part: float(len(part[0]))}):
        toy = Toy()
        recipe = dataclasses.replace(toy_recipe(steps=1), precision="float32")
        trainer = Trainer(toy, recipe, toy.loss, **how)  # type: ignore[arg-type]
        trainer.fit(toy_batches())
        gradients.append([p.grad for p in toy.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_callback_can_end_the_run_which_is_then_saved(tmp_path: Path) -> None:
    toy, seen = Toy(), []

    def on_step(step: int) -> bool:
        seen.append(step)
        toy.eval()  # as an evaluation would leave it
        return step == 7

    trainer = Trainer(toy, toy_recipe(), toy.loss, folder=tmp_path, on_step=on_step)
    trainer.fit(toy_batches())
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert "step-0000007" in states(tmp_path)


def test_random_numbers_in_the_model_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    def run_with_dropout(folder: Path | None, seed: int, crash_after: int | None = None) -> Toy:
        toy = Toy()
        before = torch.get_rng_state()

        def objective(batch: Pairs) -> Tensor:
            x, y = batch
            return toy.loss((nn.functional.dropout(x, 0.5), y))

        recipe = dataclasses.replace(toy_recipe(), seed=seed)
        trainer = Trainer(toy, recipe, objective, folder=folder)
        trainer.fit(lambda start, stop: cut(toy_batches()(start, stop), start, crash_after))
        assert torch.equal(torch.get_rng_state(), before)  # the caller's own numbers are left alone
        return toy

    def cut(batches: Iterator[Pairs], start: int, crash_after: int | None) -> Iterator[Pairs]:
        for step, batch in enumerate(batches, start):
            if step == crash_after:
                raise Stopped
            yield batch

    straight = run_with_dropout(None, seed=5)
    with pytest.raises(Stopped):
        run_with_dropout(tmp_path, seed=5, crash_after=10)
    assert_equal_weights(run_with_dropout(tmp_path, seed=5), straight)
    assert not torch.equal(run_with_dropout(None, seed=6).head.weight, straight.head.weight)


# Precision.


@pytest.mark.parametrize(
    ("precision", "is_fast", "is_half"),
    [("auto", False, False), ("auto", True, True), ("float32", True, False), ("bfloat16", False, True)],
)
def test_products_run_in_bfloat16_where_that_is_wanted_or_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: Any, is_fast: bool, is_half: bool
) -> None:
    monkeypatch.setattr(trainer_module, "bfloat16_is_fast", lambda device: is_fast)
    toy, seen = Toy(), []

    def objective(batch: Pairs) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), toy.head(batch[0]).dtype))
        return toy.loss(batch)

    recipe = dataclasses.replace(toy_recipe(steps=2), precision=precision)
    Trainer(toy, recipe, objective).fit(toy_batches())
    assert seen == [(is_half, torch.bfloat16 if is_half else torch.float32)] * 2
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
def test_a_loss_that_is_never_a_number_again_stops_the_run_and_keeps_its_states(
    tmp_path: Path, value: float
) -> None:
    toy = Toy()
    trainer: Trainer[Pairs]

    def objective(batch: Pairs) -> Tensor:
        return toy.loss(batch) * (value if trainer.step >= 10 else 1.0)

    trainer = Trainer(toy, toy_recipe(), objective, folder=tmp_path)
    with pytest.raises(WorkError, match=f"the loss is {value} at step 14; 5 updates in a row") as raised:
        trainer.fit(toy_batches())
    assert raised.value.exit_code == 1
    state = load_newest_state(tmp_path)
    assert state is not None
    assert state.step == 12
    assert all(tensor.isfinite().all() for tensor in state.tensors.values())


def test_a_single_loss_that_is_not_a_number_is_left_out_and_counted(tmp_path: Path) -> None:
    """The weights are those of a run that never saw this batch; rates and seeds go on by the step."""
    toy, left_out = Toy(), Toy()
    trainer: Trainer[Pairs]

    def objective(batch: Pairs) -> Tensor:
        return toy.loss(batch) * (math.nan if trainer.step == 10 else 1.0)

    trainer = Trainer(toy, toy_recipe(), objective, folder=tmp_path)
    trainer.fit(toy_batches())
    other = Trainer(left_out, toy_recipe(), left_out.loss)

    def batches(start: int, stop: int) -> Iterator[Pairs]:
        for step in range(start, stop):
            if step == 10:
                other.step += 1
                continue
            yield make_batch(step)

    other.fit(batches)
    assert_equal_weights(toy, left_out)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["not_finite"], line["skipped"]) for line in lines] == [(0, 0), (0, 0), (1, 1), (1, 1)]
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_counters_survive_a_crash(tmp_path: Path) -> None:
    toy, again = Toy(), Toy()
    trainer: Trainer[Pairs]

    def objective(batch: Pairs) -> Tensor:
        return trainer.module.loss(batch) * (math.nan if trainer.step == 2 else 1.0)  # type: ignore[operator]

    def cut(start: int, stop: int) -> Iterator[Pairs]:
        yield from toy_batches()(start, 9)
        raise Stopped

    trainer = Trainer(toy, toy_recipe(), objective, folder=tmp_path)
    with pytest.raises(Stopped):
        trainer.fit(cut)
    trainer = Trainer(again, toy_recipe(), objective, folder=tmp_path)
    trainer.fit(toy_batches())
    assert trainer.update.counters.not_finite == 1


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(tmp_path: Path) -> None:
    """The square root at zero: a finite loss whose gradient is not."""
    toy = Toy()

    def objective(batch: Pairs) -> Tensor:
        return toy.loss(batch) + (toy.head.weight - toy.head.weight).sum().sqrt()

    trainer = Trainer(toy, dataclasses.replace(toy_recipe(), max_skipped=1), objective, folder=tmp_path)
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
