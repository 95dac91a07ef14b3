"""How many attention logits to compute at a time when a long prompt is read.

    python benchmarks/attention_chunks.py --json benchmarks/results/attention_chunks.json

One call of `grouped_attention` at the widths of the 3B model with 4104 tokens, in bfloat16, with chunks of
several sizes, which take turns in random order; a figure is the best of all rounds.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch

from paligemma2.jobs.bench import machine_name
from paligemma2.model import gemma2

HEADS, KV_HEADS, HEAD_DIM, TOKENS = 8, 4, 256, 4104
SIZES = (8, 12, 16, 24, 32, 48, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    q, k, v = (torch.randn(1, heads, TOKENS, HEAD_DIM).bfloat16() for heads in (HEADS, KV_HEADS, KV_HEADS))
    best, chance = dict.fromkeys(SIZES, float("inf")), random.Random(0)
    with torch.inference_mode():
        for _ in range(arguments.rounds):
            for size in chance.sample(SIZES, len(SIZES)):
                gemma2.ATTENTION_CHUNK_BYTES = size * 2**20
                start = time.perf_counter()
                gemma2.grouped_attention(q, k, v, None, scale=HEAD_DIM**-0.5, cap=50.0)
                best[size] = min(best[size], time.perf_counter() - start)
    print("| chunk (MiB) | " + " | ".join(map(str, SIZES)) + " |")
    print("| --- |" + " ---: |" * len(SIZES))
    print("| time (s) | " + " | ".join(f"{best[size]:.3f}" for size in SIZES) + " |")
    if arguments.json:
        result = {"machine": machine_name(torch.device("cpu")), "torch": torch.__version__, "seconds": best}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
