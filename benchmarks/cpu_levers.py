"""What single measures on the CPU bring, each beside the way without it.

    python benchmarks/cpu_levers.py --json benchmarks/results/cpu_levers.json

Both ways of a measure take turns in every round, on inputs of the 3B model's sizes; a figure is the best of
all rounds. The last one, of building a module on the meta device, is timed in processes of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from paligemma2.jobs.bench import machine_name
from paligemma2.model import low_bit
from paligemma2.model.packed_linear import multiply, pack

WIDTH, MLP_WIDTH, KV_HEADS, GROUP, HEAD_DIM = 2304, 9216, 4, 2, 256
MATRICES = 4
Work = Callable[[], object]
START = """
import time, torch
from torch import nn
start = time.perf_counter()
with torch.device("meta"):
    {make}
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with torch.inference_mode():
        for name, without, with_it in (*float32_products(), *turned_keys(), rounding()):
            best = [float("inf"), float("inf")]
            for _ in range(arguments.rounds):
                best = [min(b, seconds(w)) for b, w in zip(best, (without, with_it), strict=True)]
            rows.append({"measure": name, "without": best[0], "with": best[1]})
    makes = ("nn.Embedding(4, 4)", "nn.Embedding(4, 4, _weight=torch.zeros(4, 4))")
    starts = [min(started(make) for _ in range(3)) for make in makes]
    rows.append({"measure": "no random numbers on the meta device", "without": starts[0], "with": starts[1]})
    print("| measure | without (ms) | with (ms) | ratio |\n| --- | ---: | ---: | ---: |")
    for row in rows:
        ratio = row["without"] / row["with"]
        times = f"{row['without'] * 1e3:.2f} | {row['with'] * 1e3:.2f}"
        print(f"| {row['measure']} | {times} | {ratio:.1f} |")
    if arguments.json:
        report = {"machine": machine_name(torch.device("cpu")), "torch": torch.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def float32_products() -> Iterator[tuple[str, Work, Work]]:
    """An MLP's matrix in float32 as it lies in the file, and packed for oneDNN."""
    weights = [torch.randn(MLP_WIDTH, WIDTH) for _ in range(MATRICES)]
    packed = [pack(weight) for weight in weights]
    for tokens in (1, 4, 264):
        x = torch.randn(tokens, WIDTH)
        yield (
            f"float32 packed for oneDNN, {tokens} tokens",
            lambda x=x: [F.linear(x, weight) for weight in weights],
            lambda x=x: [multiply(x, weight) for weight in packed],
        )


def turned_keys() -> Iterator[tuple[str, Work, Work]]:
    """The products of one token's queries with the keys."""
    for count in (266, 4110):
        k = torch.randn(1, KV_HEADS, count + 30, HEAD_DIM).bfloat16()[:, :, :count]
        q = torch.randn(1, KV_HEADS, GROUP, HEAD_DIM).bfloat16()
        yield (
            f"keys not turned, {count} keys",
            lambda q=q, k=k: q @ k.transpose(2, 3),
            lambda q=q, k=k: k @ q.transpose(2, 3),
        )


def rounding() -> tuple[str, Work, Work]:
    """An MLP's matrix to 8 bits."""
    weight = torch.randn(MLP_WIDTH, WIDTH).bfloat16()
    whole = lambda: low_bit._quantize_rows(weight.float(), 8)  # noqa: E731
    return "weights rounded some rows at a time", whole, lambda: low_bit.quantize(weight, 8)


def seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def started(make: str) -> float:
    """Seconds of the first module on the meta device in a new process."""
    code = START.format(make=make)
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


if __name__ == "__main__":
    main()
