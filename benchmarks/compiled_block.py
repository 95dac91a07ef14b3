"""A decoder block of the 3B model as it is and through `torch.compile`, and what compiling takes.

    python benchmarks/compiled_block.py

Weights are bfloat16 and not packed: the compiler does not take packed ones. Two blocks of different weights
take turns, so that no cache holds them; both ways take turns in every round. A figure is the best of all
rounds. Needs a C++ compiler.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from paligemma2.jobs.bench import machine_name
from paligemma2.model.config import preset
from paligemma2.model.gemma2 import GemmaLayer, rotary_angles

CONFIG = preset("paligemma2-3b-pt-224").text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine_name(torch.device('cpu'))}\n\n| tokens | eager (ms) | compiled (ms) | compiling (s) |")
    print("| --- | --- | --- | --- |")
    blocks = [GemmaLayer(CONFIG, 0).bfloat16().eval() for _ in range(2)]
    compiled = [torch.compile(block, dynamic=False) for block in blocks]
    with torch.inference_mode():
        for tokens in (1, 264):
            start = time.perf_counter()
            run(compiled, tokens)
            compiling = time.perf_counter() - start
            best = {"eager": float("inf"), "compiled": float("inf")}
            for _ in range(arguments.rounds):
                for name, ways in (("eager", blocks), ("compiled", compiled)):
                    start = time.perf_counter()
                    run(ways, tokens)
                    best[name] = min(best[name], (time.perf_counter() - start) / len(ways))
            print(
                f"| {tokens} | {best['eager'] * 1e3:.2f} | {best['compiled'] * 1e3:.2f} | {compiling:.1f} |"
            )


def run(blocks: list[Callable[..., Tensor]], tokens: int) -> None:
    """One pass through each block, without a cache."""
    x = torch.ones(1, tokens, CONFIG.hidden_size, dtype=torch.bfloat16)
    cos, sin = rotary_angles(torch.arange(tokens)[None], CONFIG.head_dim, CONFIG.rope_theta)
    for block in blocks:
        block(x, (cos.to(x.dtype), sin.to(x.dtype)), None, None)


if __name__ == "__main__":
    main()
