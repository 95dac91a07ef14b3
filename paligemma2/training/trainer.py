"""The one training loop."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from paligemma2.errors import ConfigError, Interrupted
from paligemma2.training.allocator import leave_no_holes
from paligemma2.training.average import WeightAverage
from paligemma2.training.checkpointing import load_newest_state, save_state
from paligemma2.training.frozen_part import frozen_digest
from paligemma2.training.interruption import stop_request
from paligemma2.training.optimizer_states import restore_states, stored_states
from paligemma2.training.parts import freeze
from paligemma2.training.recipe import Recipe
from paligemma2.training.run_log import append_to_log, rewind_log
from paligemma2.training.team import team_of
from paligemma2.training.update import Counters, Update

Batch = TypeVar("Batch")
_SEEDS_APART = 7919  # further than seeds that somebody compares
_TOO_FROZEN = "freeze less; an adapter is frozen with the part that it changes"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of the log.

    Attributes:
        step: updates done.
        steps: updates in all.
        loss: mean since the line before, of losses that are numbers.
        learning_rate: of the last update.
        grad_norm: before clipping, of the last update.
        not_finite: updates so far whose loss or gradient was not a number.
        spikes: gradients so far that were far longer than those before.
        skipped: updates so far that were left out, for either reason.
        skipped_examples: examples so far that could not be used.
        cut_suffixes: answers so far that were too long and were cut.
        examples_per_second: since the line before.
        seconds: since the run began or went on.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    not_finite: int
    spikes: int
    skipped: int
    skipped_examples: int
    cut_suffixes: int
    examples_per_second: float
    seconds: float


ProgressCallback = Callable[[str, Progress], None]
"""Called with the name of a stage or run and its progress."""


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


class Trainer(Generic[Batch]):
    """Trains a module on batches that are a pure function of the step, so that a resumed run is exact.

    Weights, gradients and optimiser states are float32; matrix products run in bfloat16 where the device has
    it. A module that `sharding.shard` has shared out is trained by all its processes together: the first of
    them writes the log, and all stop if one is asked to. With a folder, the state is saved regularly and on a
    stop request, and `fit` goes on from the newest state that verifies. It holds what is trained; what is
    frozen must be there again, of which it holds a digest. An update whose loss or gradient is not a number
    is left out and counted.

    Args:
        module: float32; its trainable parameters are updated in place.
        recipe: the hyper-parameters.
        objective: the loss of a batch, a scalar with gradient.
        split: a batch to the parts that are computed one after the other; their gradients are added up to
            that of the whole.
        weigh: how much a part of a batch counts in the mean that the objective of the batch is.
        also_saved: tensors that change though no gradient reaches them; they are in a state, too.
        folder: for states and `log.jsonl`, or None to keep nothing.
        identity: what else must be equal for a saved state to belong to this run: model, data.
        on_progress: called at every log line.
        on_step: called after every update with the number of updates done; True ends the run.

    Raises:
        ConfigError: no parameter is trainable, a part that the recipe names holds none, or another optimiser
            than AdamW is to train what is shared out.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        objective: Callable[[Batch], Tensor],
        *,
        split: Callable[[Batch], Sequence[Batch]] = lambda batch: (batch,),
        weigh: Callable[[Batch], float] = lambda batch: 1.0,
        also_saved: Mapping[str, Tensor] = MappingProxyType({}),
        folder: Path | None = None,
        identity: Mapping[str, str] = MappingProxyType({}),
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_step: Callable[[int], bool] = lambda step: False,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.objective = objective
        self.split = split
        self.weigh = weigh
        self.also_saved = also_saved
        self.folder = folder
        self.on_progress = on_progress
        self.on_step = on_step
        self.step = 0
        self._team = team_of(module.parameters())
        if self._team.size > 1 and recipe.optimizer != "adamw":
            raise ConfigError(f"{recipe.optimizer} cannot train a model that is shared out", hint="use adamw")
        self._window = _Window(recipe.batch_size)
        freeze(module, recipe.freeze)
        self._named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self._named:
            raise ConfigError("no parameter is trainable", hint=_TOO_FROZEN)
        self._settings = _as_read({"recipe": asdict(recipe), "identity": dict(identity)})
        self._settings["identity"]["frozen part"] = frozen_digest(module)
        self.update = Update(module, recipe)
        self.average = (
            WeightAverage(module, recipe.average_decay) if recipe.average_decay is not None else None
        )
        self._device = next(iter(self._named.values())).device

    def fit(self, batches: Callable[[int, int], Iterator[Batch]]) -> None:
        """Run to the last step of the recipe; the module then holds the averaged weights, if any are kept.

        Args:
            batches: given the first step and the step to stop before, the batches of those steps in order.

        Raises:
            ConfigError: the folder belongs to a run with another recipe, identity or module.
            WorkError: too many updates in a row were left out, or a state could not be saved.
            Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is a folder.
        """
        if self._device.type == "cpu":
            leave_no_holes()
        self._resume()
        self.module.train()
        self._window.start()
        with stop_request() as request, torch.random.fork_rng(self._cuda_devices()):
            for batch in batches(self.step, self.recipe.steps):
                loss, grad_norm = self._train_on(batch)
                self.step += 1
                self._window.add(loss)
                is_last = self.step == self.recipe.steps
                if self.step % self.recipe.log_every == 0 or is_last:
                    self._log(grad_norm)
                with self._window.paused():
                    is_last |= self.on_step(self.step)
                self.module.train()
                if signal_number := self._team.largest(request.signal_number):
                    self._stop(signal_number)
                if self.step % self.recipe.checkpoint_every == 0 or is_last:
                    self._save()
                if is_last:
                    break
        if self.average is not None:
            self.average.copy_to(self.module)
        self.module.eval()

    def _train_on(self, batch: Batch) -> tuple[float, float]:
        """One update; the loss of the batch and the norm of its gradient."""
        self._seed_dropout()
        self.update.clear_gradients()
        parts = self.split(batch)
        weights = [self.weigh(part) for part in parts]
        value = 0.0
        for part, weight in zip(parts, weights, strict=True):
            with self._precision():
                loss = self.objective(part)
                if len(parts) > 1:  # a factor of one would still cost a pass over the gradient of the table
                    loss = loss * (weight / sum(weights))
            value += loss.item()
            if not math.isfinite(value):
                break
            loss.backward()  # type: ignore[no-untyped-call]
        norm, is_applied = self.update.apply(self.step, value)
        if self.average is not None and is_applied:
            self.average.update(self.module, self.step)
        return value, norm

    def _seed_dropout(self) -> None:
        """Other numbers in every step and process; those of the first one are those of a process alone."""
        torch.manual_seed((self.recipe.seed + _SEEDS_APART * self._team.rank) * 1_000_003 + self.step)

    def _precision(self) -> AbstractContextManager[object]:
        wanted = self.recipe.precision
        if wanted == "bfloat16" or (wanted == "auto" and bfloat16_is_fast(self._device)):
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _cuda_devices(self) -> list[int]:
        return [torch.cuda.current_device()] if self._device.type == "cuda" else []

    def _log(self, grad_norm: float) -> None:
        loss, rate, seconds = self._window.close()
        progress = Progress(
            step=self.step,
            steps=self.recipe.steps,
            loss=loss,
            learning_rate=self.update.learning_rate(self.step - 1),
            grad_norm=grad_norm,
            not_finite=self.update.counters.not_finite,
            spikes=self.update.counters.spikes,
            skipped=self.update.counters.skipped,
            skipped_examples=self.update.counters.skipped_examples,
            cut_suffixes=self.update.counters.cut_suffixes,
            examples_per_second=rate,
            seconds=seconds,
        )
        if not self._team.is_first:
            return
        if self.folder is not None:
            append_to_log(self.folder, asdict(progress))
        self.on_progress(progress)

    def _stop(self, signal_number: int) -> None:
        self._save()
        where = f"saved in {self.folder}" if self.folder is not None else "nothing is saved"
        raise Interrupted(
            f"stopped at step {self.step} of {self.recipe.steps}, {where}",
            signal_number=signal_number,
            hint="run the same command again to go on" if self.folder is not None else "",
        )

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {f"module.{name}": p.detach() for name, p in self._named.items()}
        tensors |= {f"also.{name}": tensor.detach() for name, tensor in self.also_saved.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        tensors |= stored_states(self.update.optimizers, self._named)
        values = {"window": self._window.losses, "counters": self.update.counters.as_values()}
        save_state(self.folder, self.step, tensors, self._settings | values)

    def _resume(self) -> None:
        if self.folder is None:
            return
        saved = load_newest_state(self.folder, self._team)
        if saved is None:
            if self._team.is_first:
                rewind_log(self.folder, 0)
            return
        self._check_settings(saved.values)
        self._check_module(saved.tensors.shapes)
        for name, parameter in self._named.items():
            saved.tensors.copy_to(f"module.{name}", parameter)
            if self.average is not None:
                saved.tensors.copy_to(f"average.{name}", self.average.weights[name])
        for name, tensor in self.also_saved.items():
            saved.tensors.copy_to(f"also.{name}", tensor)
        restore_states(self.update.optimizers, self._named, saved.tensors)
        self.step = saved.step
        self._window.losses = saved.values["window"]
        self.update.counters = Counters.from_values(saved.values["counters"])
        if self._team.is_first:
            rewind_log(self.folder, self.step)

    def _check_settings(self, saved: Mapping[str, Mapping[str, object]]) -> None:
        changed = [
            name
            for part, settings in self._settings.items()
            for name, value in settings.items()
            if saved.get(part, {}).get(name) != value
        ]
        if changed:
            raise ConfigError(
                f"{self.folder} belongs to a run with another {', '.join(changed)}",
                hint="use the same settings to go on, or remove that folder to start anew",
            )

    def _check_module(self, saved: Mapping[str, torch.Size]) -> None:
        there = {name: shape for name, shape in saved.items() if name.startswith("module.")}
        here = {f"module.{name}": p.shape for name, p in self._named.items()}
        if there != here:
            name = next(name for name in {**here, **there} if here.get(name) != there.get(name))
            raise ConfigError(
                f"{self.folder} belongs to a run of another model (first difference: {name})",
                hint="use the same model to go on, or remove that folder to start anew",
            )


def _as_read(settings: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """As a saved state gives them back, where a tuple is a list."""
    read: dict[str, dict[str, object]] = json.loads(json.dumps(settings))
    return read


class _Window:
    """Mean loss and speed since the last log line."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.losses: list[float] = []
        self.start()

    def start(self) -> None:
        self._updates = 0
        self._begin = self._first = time.monotonic()

    def add(self, loss: float) -> None:
        if math.isfinite(loss):
            self.losses.append(loss)
        self._updates += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what takes time beside the training, as an evaluation does, out of the speed."""
        begin = time.monotonic()
        yield
        self._begin += time.monotonic() - begin

    def close(self) -> tuple[float, float, float]:
        now = time.monotonic()
        rate = self._updates * self._batch_size / max(now - self._begin, 1e-9)
        loss = sum(self.losses) / max(1, len(self.losses))
        self.losses, self._updates, self._begin = [], 0, now
        return loss, rate, now - self._first
