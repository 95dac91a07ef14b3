"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from paligemma2.errors import ConfigError, Interrupted, WorkError
from paligemma2.training.average import WeightAverage
from paligemma2.training.checkpointing import load_newest_state, save_state
from paligemma2.training.interruption import stop_request
from paligemma2.training.optimizer import build_optimizers
from paligemma2.training.recipe import Recipe
from paligemma2.training.run_log import append_to_log, rewind_log
from paligemma2.training.schedule import learning_rate_factor
from paligemma2.training.team import team_of

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of the log."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
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
    stop request, and `fit` goes on from the newest state that verifies.

    Args:
        module: float32; its trainable parameters are updated in place.
        recipe: the hyper-parameters.
        objective: the loss of a batch, a scalar with gradient.
        folder: for states and `log.jsonl`, or None to keep nothing.
        identity: what else must be equal for a saved state to belong to this run: model, data.
        on_progress: called at every log line.

    Raises:
        ConfigError: no parameter is trainable, or Muon is to train matrices that are shared out.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        objective: Callable[[Batch], Tensor],
        *,
        folder: Path | None = None,
        identity: Mapping[str, str] = MappingProxyType({}),
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.objective = objective
        self.folder = folder
        self._settings = {"recipe": asdict(recipe), "identity": dict(identity)}
        self.on_progress = on_progress
        self.step = 0
        self._team = team_of(module.parameters())
        if self._team.size > 1 and recipe.optimizer == "muon":
            raise ConfigError("muon cannot train a model that is shared out", hint="use adamw")
        self._window = _Window(recipe.batch_size)
        self._named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self._named:
            raise ConfigError("no parameter is trainable", hint="do not freeze everything")
        self.optimizers = build_optimizers(
            module,
            recipe.optimizer,
            learning_rate=recipe.learning_rate,
            muon_learning_rate=recipe.muon_learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self._base_rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        self.average = (
            WeightAverage(module, recipe.average_decay) if recipe.average_decay is not None else None
        )
        device = next(iter(self._named.values())).device
        self._precision = (
            torch.autocast(device.type, dtype=torch.bfloat16) if bfloat16_is_fast(device) else nullcontext()
        )

    def fit(self, batches: Callable[[int, int], Iterator[Batch]]) -> None:
        """Run to the last step of the recipe; the module then holds the averaged weights, if any are kept.

        Args:
            batches: given the first step and the step to stop before, the batches of those steps in order.

        Raises:
            ConfigError: the folder belongs to a run with another recipe, identity or module.
            WorkError: the loss or its gradient is not a number, or a state could not be saved.
            Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is a folder.
        """
        self._resume()
        self.module.train()
        self._window.start()
        with stop_request() as request:
            for batch in batches(self.step, self.recipe.steps):
                loss, grad_norm = self._update(batch)
                self.step += 1
                self._window.add(loss)
                if self.step % self.recipe.log_every == 0 or self.step == self.recipe.steps:
                    self._log(grad_norm)
                if signal_number := self._team.largest(request.signal_number):
                    self._stop(signal_number)
                if self.step % self.recipe.checkpoint_every == 0 or self.step == self.recipe.steps:
                    self._save()
        if self.average is not None:
            self.average.copy_to(self.module)
        self.module.eval()

    def _update(self, batch: Batch) -> tuple[float, float]:
        factor = learning_rate_factor(
            self.step,
            total_steps=self.recipe.steps,
            warmup_steps=self.recipe.warmup_steps,
        )
        for optimizer, rates in zip(self.optimizers, self._base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
        with self._precision:
            loss = self.objective(batch)
        value = loss.item()
        self._check_finite("loss", value)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(list(self._named.values()), self.recipe.grad_clip))
        self._check_finite("norm of the gradient", norm)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average is not None:
            self.average.update(self.module, self.step)
        return value, norm

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise WorkError(
                f"the {what} is {value} at step {self.step}",
                hint="try a lower learning rate in another folder; states saved before are untouched",
            )

    def _log(self, grad_norm: float) -> None:
        loss, rate, seconds = self._window.close()
        progress = Progress(
            step=self.step,
            steps=self.recipe.steps,
            loss=loss,
            learning_rate=self.optimizers[0].param_groups[0]["lr"],
            grad_norm=grad_norm,
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
        tensors = {f"module.{name}": p.detach() for name, p in self.module.named_parameters()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        for name, parameter in self._named.items():
            for number, optimizer in enumerate(self.optimizers):
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{number}.{key}.{name}"] = torch.as_tensor(value)
        save_state(self.folder, self.step, tensors, self._settings | {"window": self._window.losses})

    def _resume(self) -> None:
        saved = load_newest_state(self.folder, self._team) if self.folder is not None else None
        if saved is None or self.folder is None:
            return
        self._check_settings(saved.values)
        self._check_module(saved.tensors.shapes)
        for name, parameter in self.module.named_parameters():
            saved.tensors.copy_to(f"module.{name}", parameter)
            if self.average is not None:
                saved.tensors.copy_to(f"average.{name}", self.average.weights[name])
        for number, optimizer in enumerate(self.optimizers):
            prefix = f"optimizer.{number}."
            for key in saved.tensors:
                if key.startswith(prefix):
                    kind, name = key.removeprefix(prefix).split(".", 1)
                    parameter = self._named[name]
                    optimizer.state[parameter][kind] = saved.tensors.like(key, parameter)
        self.step = saved.step
        self._window.losses = saved.values.get("window", [])
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
        here = {f"module.{name}": p.shape for name, p in self.module.named_parameters()}
        if there != here:
            name = next(name for name in {**here, **there} if here.get(name) != there.get(name))
            raise ConfigError(
                f"{self.folder} belongs to a run of another model (first difference: {name})",
                hint="use the same model to go on, or remove that folder to start anew",
            )


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
        self.losses.append(loss)
        self._updates += 1

    def close(self) -> tuple[float, float, float]:
        now = time.monotonic()
        rate = self._updates * self._batch_size / max(now - self._begin, 1e-9)
        loss = sum(self.losses) / len(self.losses)
        self.losses, self._updates, self._begin = [], 0, now
        return loss, rate, now - self._first
