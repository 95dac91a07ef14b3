"""A training run of milliseconds for the tests; as a script, one that can be sent signals.

python toy_run.py FOLDER OPTIMIZER NUM_WORKERS [slow]
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from paligemma2.data.loader import load_batches
from paligemma2.errors import PaliGemmaError
from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.recipe import OptimizerName, Recipe
from paligemma2.training.trainer import Progress, Trainer

Pairs = tuple[Tensor, Tensor]


class Toy(nn.Module):
    """Two layers, a norm and a bias: something for every optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Module()
        self.block.layers = nn.ModuleList([nn.Linear(6, 8, bias=False), nn.Linear(8, 6, bias=False)])
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.4, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.block.layers  # type: ignore[misc]
        result: Tensor = self.head(self.norm(second(torch.tanh(first(x)))))
        return result

    def loss(self, batch: Pairs) -> Tensor:
        x, y = batch
        difference: Tensor = self(x) - y
        return difference.square().mean()


def make_batch(step: int) -> Pairs:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 6, generator=generator)
    return x, torch.stack((x[:, 0] + x[:, 1], x[:, 2] * 0.5), dim=1)


def toy_batches(num_workers: int = 0) -> Callable[[int, int], Iterator[Pairs]]:
    return lambda start, stop: load_batches(make_batch, start, stop, num_workers=num_workers)


def toy_recipe(optimizer: OptimizerName = "adamw", steps: int = 20) -> Recipe:
    return Recipe(
        steps=steps,
        batch_size=16,
        optimizer=optimizer,
        learning_rate=0.02,
        muon_learning_rate=0.01,
        weight_decay=0.1,
        average_decay=0.9,
        checkpoint_every=4,
        log_every=5,
    )


DETERMINED = ("step", "steps", "loss", "learning_rate", "grad_norm")


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


def tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(folder: str, optimizer: OptimizerName, num_workers: str, speed: str = "") -> None:
    """Run until a signal comes: every step takes a moment, or from the fourth on a minute."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a test runner may have left them ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    toy = Toy()

    def objective(batch: Pairs) -> Tensor:
        tell("step")
        time.sleep(60 if speed == "slow" and trainer.step == 3 else 0.02)
        return toy.loss(batch)

    def on_progress(progress: Progress) -> None:
        tell(progress.step)

    trainer = Trainer(
        toy, toy_recipe(optimizer, 5000), objective, folder=Path(folder), on_progress=on_progress
    )
    try:
        trainer.fit(toy_batches(int(num_workers)))
    except PaliGemmaError as error:
        tell(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])  # type: ignore[arg-type]
