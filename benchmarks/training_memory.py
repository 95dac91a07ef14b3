"""Memory of a step of training: stated by `training.plan` and measured, on random weights of real widths.

    python benchmarks/training_memory.py
    python benchmarks/training_memory.py --case full-1-none --json benchmarks/results/training_memory.json

Each case is a process of its own: the widths and the vocabulary of the 3B model with two blocks in each
tower, two updates of a `Trainer`. Measured is by how much its resident memory (on a GPU: what is allocated)
grew at its largest, weights included. Needs Linux, or a GPU, and up to 16 GB.
"""

import argparse
import ctypes
import dataclasses
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from vs_transformers import with_layers

from paligemma2.jobs.bench import machine_name
from paligemma2.jobs.versions import versions
from paligemma2.model.config import ModelConfig, preset
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_fresh_adapter
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.plan import StepSize, Way, training_memory
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer, bfloat16_is_fast

PREFIX, SUFFIX = 16, 32
CASES = [
    f"{what}-{rows}-{recomputation}"
    for what in ("full", "lora", "lora16")
    for rows in (1, 4)
    for recomputation in ("none", "full")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--vocabulary", type=int, default=257_216, help="rows of the table")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        device = torch.device(arguments.device)
        print(json.dumps(measure(arguments.case[0], arguments.vocabulary, device)))
        return
    rows = []
    for case in arguments.case or CASES:
        flags = ["--worker", "--device", arguments.device, "--vocabulary", str(arguments.vocabulary)]
        command = [sys.executable, __file__, *flags, "--case", case]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        stated, measured = row["stated"] / 1e9, row["measured"] / 1e9
        print(f"{case:20} stated {stated:6.2f} GB  measured {measured:6.2f} GB  {stated / measured:.3f}")
    if arguments.json:
        machine = machine_name(torch.device(arguments.device))
        report = {
            "machine": machine,
            "versions": versions(),
            "vocabulary": arguments.vocabulary,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(case: str, vocabulary: int, device: torch.device) -> dict[str, Any]:
    """Stated and measured bytes of one case."""
    what, rows, recomputation = case.split("-")
    config = with_layers(preset("paligemma2-3b-pt-224"), 2)
    config = dataclasses.replace(
        config,
        text=dataclasses.replace(config.text, vocab_size=vocabulary),
        image_token_id=min(config.image_token_id, vocabulary - 1),
    )
    batch = batch_of(config, int(rows))
    before = resident(device)
    model = random_model(config, what, device)
    model.prepare_training(recomputation=recomputation)  # type: ignore[arg-type]
    objective = SuffixObjective(model)
    recipe = Recipe(steps=2, batch_size=int(rows), learning_rate=1e-6)
    sizes = StepSize(
        rows=int(rows), tokens=batch.token_ids.shape[1], images=int(rows), targets=int(rows) * SUFFIX
    )
    dtype = torch.bfloat16 if bfloat16_is_fast(device) else torch.float32
    way = Way(device=device.type, compute_dtype=dtype, recomputation=recomputation)  # type: ignore[arg-type]
    plan = training_memory(model, sizes, way)

    def batches(start: int, stop: int) -> Iterator[ModelInputs]:
        for _ in range(start, stop):
            gc.collect()
            if device.type == "cpu":
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            yield batch

    Trainer(model, recipe, objective).fit(batches)
    measured = peak(device) - before
    return {"case": case, "stated": plan.total, "measured": measured, "plan": asdict(plan)}


def random_model(config: ModelConfig, what: str, device: torch.device) -> PaliGemma2Model:
    """All of it trained, or only an adapter of float32 or bfloat16 weights."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    model = model.to(torch.bfloat16 if what == "lora16" else torch.float32).to_empty(device=device)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.02)
    if what != "full":
        add_fresh_adapter(model, LoraSettings(rank=16, alpha=16.0))
    return model


def batch_of(config: ModelConfig, rows: int) -> ModelInputs:
    """Rows of one picture, a prefix and a suffix."""
    size, image = config.vision.image_size, config.num_image_tokens
    ids = torch.randint(1000, config.num_text_rows, (rows, image + PREFIX + SUFFIX))
    ids[:, :image] = config.image_token_id
    is_prefix = (torch.arange(ids.shape[1]) < image + PREFIX).expand_as(ids)
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.rand(rows, 3, size, size) * 2 - 1,
        image_index=torch.arange(rows),
        layout=PrefixLayout.from_flags(torch.ones_like(is_prefix), is_prefix),
        loss_weights=(~is_prefix).float(),
        ids=(),
    )


def resident(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return status("VmRSS")


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return status("VmHWM")


def status(name: str) -> int:
    """A number of bytes that Linux states of this process."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == f"{name}:")


if __name__ == "__main__":
    main()
