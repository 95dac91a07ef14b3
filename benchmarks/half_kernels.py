"""Matrix products with weights of 16 bits on a CPU: PyTorch's own, float32, and FBGEMM's packed float16.

    python benchmarks/half_kernels.py

The matrices are those of the 3B model: one of an MLP, in a ring larger than the caches, and half of the
output layer. The ways are taken in turn in each round; a figure is the best of all rounds. Then what packing
costs: the start, and the first use of a token.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.model.half_linear import HalfLinear, half_blocks
from paligemma2.model.packed_table import PackedTable

WIDTH = 2304
MATRICES = {"MLP": (9216, 8), "half of the output layer": (128_608, 1)}
"""Rows of a matrix, and how many of them make a ring."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| matrix | tokens | way | ms | GB/s of its weights | GFLOP/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    with torch.inference_mode():
        for name, (rows, count) in MATRICES.items():
            ways, bytes_per_weight = ways_of(rows, count)
            for tokens in (1, 4, 264):
                x = torch.randn(tokens, WIDTH)
                best = dict.fromkeys(ways, float("inf"))
                for _ in range(arguments.rounds if tokens < 264 else 2):
                    for way, products in ways.items():
                        # Without bfloat16 instructions PyTorch's own product of many tokens takes minutes.
                        if not (way == "bfloat16" and tokens == 264 and rows > WIDTH * 4):
                            best[way] = min(best[way], seconds(products, x))
                for way, taken in best.items():
                    print_row(name, tokens, way, taken, rows * WIDTH, bytes_per_weight[way])
        print_costs(arguments.threads)


def ways_of(rows: int, count: int) -> tuple[dict[str, list[Callable[[Tensor], Tensor]]], dict[str, int]]:
    """For each way a ring of products with different matrices, and the bytes that it keeps of a weight."""
    linears = [nn.Linear(WIDTH, rows, bias=False).bfloat16() for _ in range(count)]
    wide = [linear.weight.float() for linear in linears]
    halves = [HalfLinear(linear) for linear in linears]
    ways: dict[str, list[Callable[[Tensor], Tensor]]] = {
        "bfloat16": [lambda x, each=each: F.linear(x.bfloat16(), each.weight) for each in linears],
        "float32": [lambda x, each=each: F.linear(x, each) for each in wide],
        "packed float16": [lambda x, each=each: each(x) for each in halves],
    }
    return ways, {"bfloat16": 2, "float32": 4, "packed float16": 2}


def seconds(products: list[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    """Of one product, the mean over the ring."""
    start = time.perf_counter()
    for product in products:
        product(x)
    return (time.perf_counter() - start) / len(products)


def print_costs(threads: int) -> None:
    """Packing an embedding by one thread and by all, and looking tokens up for the first time."""
    table = nn.Embedding(MATRICES["half of the output layer"][0], WIDTH).bfloat16()
    for count in dict.fromkeys((1, threads)):
        torch.set_num_threads(count)
        start = time.perf_counter()
        half = PackedTable(table, half_blocks())
        print(f"packing half of the output layer, {count} threads: {time.perf_counter() - start:.2f} s")
    tokens = torch.arange(0, table.num_embeddings, 10_000)
    for what in ("first", "second"):
        start = time.perf_counter()
        half(tokens)
        print(f"{what} use of a token: {(time.perf_counter() - start) / len(tokens) * 1e3:.2f} ms")


def print_row(name: str, tokens: int, way: str, taken: float, weights: int, bytes_per_weight: int) -> None:
    if taken == float("inf"):
        return
    rates = f"{bytes_per_weight * weights / taken / 1e9:.1f} | {2 * tokens * weights / taken / 1e9:.0f}"
    print(f"| {name} | {tokens} | {way} | {taken * 1e3:.2f} | {rates} |")


if __name__ == "__main__":
    main()
