"""Runs of a small model by one process or by several together, for the tests; also a script of `torchrun`.

torchrun --nproc-per-node N shared_run.py FOLDER STEPS ["slow at STEP"]
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from paligemma2.checkpoint.safetensors_writer import save_file
from paligemma2.errors import PaliGemmaError
from paligemma2.model.lora import Adapter, LowRank, attach, using_adapters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.processes import join_processes
from paligemma2.processing.processor import ModelInputs
from paligemma2.training import checkpointing
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Average, OptimizerName, Recipe
from paligemma2.training.sharding import shard
from paligemma2.training.trainer import Progress, Trainer
from paligemma2.types import Example
from tests.training.small_model import examples_on, picture, small_model, small_processor

Parts = list[ModelInputs]
BATCH = 6
CPU = torch.device("cpu")


def recipe(steps: int = 6, average: Average = "example", optimizer: OptimizerName = "adamw") -> Recipe:
    return Recipe(
        steps=steps,
        batch_size=BATCH,
        optimizer=optimizer,
        learning_rate=2e-3,
        weight_decay=0.1,
        average=average,
        average_decay=0.9,
        checkpoint_every=2,
        log_every=1,
    )


def examples(step: int) -> list[Example]:
    """Six rows of unequal length, others in every step."""
    rows = [
        row for part in range(2) for row in examples_on([picture(10 * step + i + part) for i in range(3)])
    ]
    return rows[:BATCH]


def adapted_model(dtype: torch.dtype = torch.float32) -> PaliGemma2Model:
    """Only an adapter is trained, in float32; the frozen weights have this dtype."""
    model = small_model().to(dtype).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    changes = {}
    for layer, module in model.language_model.named_modules(prefix="language_model"):
        if isinstance(module, nn.Linear):
            a = torch.randn(3, module.in_features, generator=generator) * 0.1
            changes[layer] = LowRank(a, torch.zeros(module.out_features, 3), alpha=6.0)
    attach(model, {"mine": Adapter(changes=changes)})
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    return model


def recomputing_model() -> PaliGemma2Model:
    """Blocks come together three times in a step."""
    model = small_model()
    model.prepare_training(recomputation="full")
    return model


def mesh_of_all() -> DeviceMesh | None:
    return init_device_mesh("cpu", (dist.get_world_size(),)) if dist.is_initialized() else None


def run(
    folder: Path | None,
    *,
    steps: int = 6,
    average: Average = "example",
    stop_before: int | None = None,
    make: Callable[[], PaliGemma2Model] = small_model,
    compute_dtype: torch.dtype = torch.float32,
    parts: int = 1,
    poison: tuple[int, int] | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> tuple[Trainer[Parts], list[Progress]]:
    """Train, in all processes together if there are several.

    Args:
        folder: for states.
        steps: of the recipe.
        average: of the recipe.
        stop_before: the batch of this step does not come, which ends the run.
        make: the model.
        compute_dtype: of products.
        parts: that a process computes one after the other.
        poison: in this step the loss of the process with this rank is not a number.
        on_step: called before each step.
    """
    model, processor, mesh = make(), small_processor(), mesh_of_all()
    suffix_loss = SuffixObjective(model, average=average)
    rank, size = (0, 1) if mesh is None else (mesh.get_local_rank(), mesh.size())
    adapters = ["mine" if any(".lora_" in name for name, _ in model.named_parameters()) else None]

    def loss(inputs: ModelInputs) -> Tensor:
        with using_adapters(adapters, CPU):
            value = suffix_loss(inputs)
        return value * math.nan if poison == (trainer.step, rank) else value

    objective: Callable[[ModelInputs], Tensor] = loss
    weigh: Callable[[ModelInputs], float] = suffix_loss.weight_of
    if mesh is not None:
        objective = shared = shard(model, loss, weigh, mesh, compute_dtype=compute_dtype)
        weigh = shared.weight_of

    def batches(start: int, stop: int) -> Iterator[Parts]:
        for step in range(start, stop):
            if step == stop_before:
                return
            on_step(step)
            mine = examples(step)[rank::size]
            yield [processor.encode(mine[part::parts], train=True) for part in range(parts)]

    lines: list[Progress] = []
    trainer: Trainer[Parts] = Trainer(
        model,
        replace(
            recipe(steps, average), precision="bfloat16" if compute_dtype == torch.bfloat16 else "float32"
        ),
        objective,
        split=lambda batch: batch,
        weigh=weigh,
        folder=folder,
        on_progress=lines.append,
    )
    trainer.fit(batches)
    return trainer, lines


def tell(what: object) -> None:
    sys.stdout.write(f"{os.environ.get('RANK')} {what}\n")
    sys.stdout.flush()


def save_slowly(step: str) -> None:
    """Half a file is there for some seconds before it is whole."""

    def save(tensors: dict[str, Tensor], path: Path) -> None:
        save_file(tensors, path)
        if f"{int(step):07d}.partial" in str(path):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            time.sleep(8)
            path.write_bytes(content)

    checkpointing.save_file = save


def main(folder: str, steps: str, slow: str = "") -> None:
    """Every step takes a moment, and its process says so."""
    if slow:
        save_slowly(slow.removeprefix("slow at "))
    for number in (signal.SIGINT, signal.SIGTERM):  # a test runner may have left them ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    join_processes("cpu")

    def on_step(step: int) -> None:
        tell(f"step {step} of process {os.getpid()}")
        time.sleep(0.05)

    try:
        run(Path(folder), steps=int(steps), on_step=on_step)
    except PaliGemmaError as error:
        tell(error)
        sys.exit(error.exit_code)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
