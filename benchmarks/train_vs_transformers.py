"""Time and memory of a training step against transformers, on the same weights, data, batch and precision.

    python benchmarks/train_vs_transformers.py --json benchmarks/results/train_vs_transformers.json

A step is one forward and backward pass; the gradients stay, no optimiser is run. Weights are float32,
products in bfloat16 under autocast, or all is float32. Both sides average the loss over tokens, as
transformers does.

The small model runs in one process, both sides in turn. The model of the 3B widths with the full vocabulary
has random weights and `--layers` blocks in each tower; its sides alternate as processes of their own, each of
which takes some steps. A figure is the best of all steps.

Memory is that of a process: the largest resident memory during the first step (the kernel's high-water
mark, reset before it), less what was resident before (weights, code), less the bytes of the gradients. So
nothing of the weights, the gradients and an optimiser's states is in it, but the copies of weights that
autocast makes are. The C library's allocator is left as it is: what is larger than 32 MB it returns at once,
and the peaks of both sides consist of such.

On a GPU the whole 3B model is taken, and memory is what PyTorch has allocated.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from training_gpu import gpu_rows
from training_sides import Length, Ours, Peer, random_batch, step
from vs_transformers import with_layers

from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.save import save_model
from paligemma2.inference.loading import load
from paligemma2.jobs.bench import machine_name, random_model
from paligemma2.jobs.versions import versions
from paligemma2.model.config import preset
from paligemma2.processing.packing import pack

CPU = torch.device("cpu")
ROW_LENGTH = 1536
"""Of packed rows: what the longest example of the mix needs."""
TINY_BATCH = tuple(Length(1, 8 + i % 9, 4 + 3 * i % 13) for i in range(16))
WIDE_BATCH = (Length(1, 12, 8), Length(1, 28, 20))
MIX = (  # pictures, and text of 8 to 512 tokens
    Length(1, 6, 2),
    Length(2, 10, 5),
    Length(4, 20, 8),
    Length(1, 40, 12),
    Length(2, 120, 40),
    Length(1, 12, 4),
    Length(1, 200, 80),
    Length(4, 380, 132),
)
ONE_IMAGE_MIX = tuple(each._replace(images=1) for each in MIX)
SIDES = ("transformers", "none", "selective", "full")
STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2, help="blocks of each tower of the 3B widths")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="bfloat16", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure_side(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(Path(folder), arguments)
    print(table(report))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    rows = tiny_rows(folder / "tiny", 6 * arguments.rounds)
    config = with_layers(preset("paligemma2-3b-pt-224"), arguments.layers)
    save_model(folder / "wide", random_model(config), config, files_from=None)
    for precision in ("bfloat16", "float32"):
        rows += wide_rows(folder / "wide", precision, arguments)
    rows += packing_rows(folder / "wide", arguments.rounds)
    if torch.cuda.is_available():
        rows += gpu_rows(folder / "gpu")
    return {
        "machine": machine_name(CPU),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions() | {"transformers": __import__("transformers").__version__},
        "model": {"widths": "3b", "layers": arguments.layers, "batch": len(WIDE_BATCH)},
        "rows": rows,
    }


def row(name: str, unit: str, ours: float, peer: float, against: str = "transformers") -> dict[str, Any]:
    """`ratio` says how many times better ours is."""
    return {"row": name, "unit": unit, "ours": ours, "peer": peer, "ratio": peer / ours, "against": against}


def tiny_rows(folder: Path, steps: int) -> list[dict[str, Any]]:
    """The small model, both sides in turn in this process."""
    small = load("tiny", dtype="float32", for_training=True)
    save_model(folder, small.model, small.config, files_from=small.folder)
    sides, inputs = (Ours(folder, "none"), Peer(folder)), random_batch(small.config, TINY_BATCH)
    rows = []
    for precision in ("bfloat16", "float32"):
        seconds, losses = in_turn(sides, inputs, precision, steps)
        rows.append(with_losses(row(f"step_time_tiny{suffix(precision)}", "s", *seconds), *losses))
    return rows


def in_turn(
    sides: Sequence[Any], inputs: Any, precision: str, steps: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The best seconds of each side, and the losses."""
    seconds: list[list[float]] = [[] for _ in sides]
    losses = [0.0 for _ in sides]
    for _ in range(steps):
        for number, side in enumerate(sides):
            start = time.perf_counter()
            losses[number] = step(side, inputs, precision)
            seconds[number].append(time.perf_counter() - start)
    return tuple(min(each) for each in seconds), tuple(losses)


def wide_rows(folder: Path, precision: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The 3B widths, each side in processes of its own."""
    sides = SIDES if precision == "bfloat16" else SIDES[:2]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name in sides:
            rounds[name].append(run_side(name, folder, precision, arguments))
    best = {
        name: {key: min(each[key] for each in measured) for key in measured[0]}
        for name, measured in rounds.items()
    }
    rows = []
    for name in sides[1:]:
        end = suffix(precision) if name == "none" else f"_{name}"
        for kind, unit in (("step_time", "s"), ("peak_memory", "bytes")):
            made = row(f"{kind}{end}", unit, best[name][kind], best["transformers"][kind])
            rows.append(with_losses(made, best[name]["loss"], best["transformers"]["loss"]))
    return rows


def suffix(precision: str) -> str:
    return "" if precision == "bfloat16" else f"_{precision}"


def with_losses(made: dict[str, Any], ours: float, peer: float) -> dict[str, Any]:
    return made | {"loss": ours, "loss_difference": ours - peer}


def run_side(name: str, folder: Path, precision: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One process of one side."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--precision", precision]
    command += ["--threads", str(arguments.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(precision, name, {key: f"{value:.4g}" for key, value in measured.items()}, file=sys.stderr)
    return measured


def measure_side(arguments: argparse.Namespace) -> dict[str, float]:
    """What one process measures: the best seconds of a step, its memory, and the loss."""
    inputs = random_batch(read_config(arguments.folder), WIDE_BATCH)
    side: Any = (
        Peer(arguments.folder) if arguments.side == "transformers" else Ours(arguments.folder, arguments.side)
    )
    gradient_bytes = sum(parameter.nbytes for parameter in side.model.parameters())
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    before = memory("VmRSS")
    (first,), (loss,) = in_turn((side,), inputs, arguments.precision, 1)
    peak = memory("VmHWM") - before - gradient_bytes
    (later,), _ = in_turn((side,), inputs, arguments.precision, STEPS - 1)
    return {"step_time": min(first, later), "peak_memory": peak, "loss": loss}


def memory(field: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def packing_rows(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Packed rows against padded ones, both ours."""
    side, config = Ours(folder, "none"), read_config(folder)
    rows = []
    for name, mix in (("packed_vs_padded", MIX), ("packed_vs_padded_one_image", ONE_IMAGE_MIX)):
        padded = random_batch(config, mix)
        packed = pack(padded, ROW_LENGTH, config)
        (fast,), (loss,) = in_turn((side,), packed, "bfloat16", 1 + rounds)
        (slow,), (padded_loss,) = in_turn((side,), padded, "bfloat16", rounds)
        made = row(name, "s", fast, slow, "ours, padded")
        tokens = int(packed.layout.is_valid.sum())
        made |= {"tokens": tokens, "packed": packed.token_ids.numel(), "padded": padded.token_ids.numel()}
        rows.append(with_losses(made, loss, padded_loss))
    return rows


def table(report: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = [
        "| row | ours | against | it | ratio | loss | difference |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for each in report["rows"]:
        ours, peer = (shown(each[side], each["unit"]) for side in ("ours", "peer"))
        loss = [f"{each[key]:.{digits}}" if key in each else "-" for key, digits in LOSS_COLUMNS]
        cells = (each["row"], ours, each["against"], peer, f"{each['ratio']:.2f}", *loss)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


LOSS_COLUMNS = (("loss", "4f"), ("loss_difference", "1e"))


def shown(value: float, unit: str) -> str:
    return f"{value / 1e9:.2f} GB" if unit == "bytes" else f"{value:.3f} {unit}"


if __name__ == "__main__":
    main()
