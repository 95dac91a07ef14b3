"""PyTorch's own products with weights of 8 and 4 bits on a CPU, beside bfloat16.

    python benchmarks/low_bit_kernels.py --threads 2

The matrices are those of an MLP of the 3B model, each way with a ring of eight, larger than the
caches. The ways take turns in every round; a figure is the best of all rounds. Where a kernel wants
activations of 8 bits, making them is part of the time. The kernels have no public names, and differ in what
they expect: each is checked against the product in float32.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from half_kernels import seconds
from torch import Tensor

from paligemma2.jobs.bench import machine_name, read_rate
from paligemma2.model import low_bit_kernel
from paligemma2.model.low_bit import Bits, quantize

SHAPES = ((9216, 2304), (2304, 9216))
RING = 8
GROUP = 128
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A kernel.

    Attributes:
        bits: that are read of each weight, scales included.
        tolerance: largest relative error.
        dtype: of the activations that go in and come out.
        make: from a matrix in float32 [rows, columns] a product with it.
        is_slow: timed once, with one matrix and not with many tokens.
    """

    bits: float
    tolerance: float
    dtype: torch.dtype
    make: Callable[[Tensor], Product]
    is_slow: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        cases = [case for shape in SHAPES for case in prepared(shape)]
        rates = [read_rate(cpu)]
        for number in range(arguments.rounds):
            for case in cases:
                case.measure(is_first=number == 0)
            rates.append(read_rate(cpu))
    rows = [case.row() for case in cases]
    print(table(rows))
    print(f"\n{machine_name(cpu)}; it reads {max(rates) / 1e9:.1f} GB/s")
    if arguments.json:
        report = {"machine": machine_name(cpu), "torch": torch.__version__}
        report |= {"read_bytes_per_second": max(rates), "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@dataclass(kw_only=True)
class Case:
    """A way with a ring of matrices [rows, columns] and its input; `best` is in seconds."""

    name: str
    shape: tuple[int, int]
    products: list[Product]
    x: Tensor
    error: float
    best: float = float("inf")

    def measure(self, *, is_first: bool) -> None:
        """Some passes over the ring; none but the first of a slow way."""
        if is_first or not WAYS[self.name].is_slow:
            for _ in range(1 if len(self.x) > 4 or WAYS[self.name].is_slow else 5):
                self.best = min(self.best, seconds(self.products, self.x))

    def row(self) -> dict[str, Any]:
        """What was measured."""
        weights, tokens = self.shape[0] * self.shape[1], len(self.x)
        return {
            "matrix": f"{self.shape[0]} × {self.shape[1]}",
            "tokens": tokens,
            "way": self.name,
            "seconds": self.best,
            "bytes_per_second": weights * WAYS[self.name].bits / 8 / self.best,
            "operations_per_second": 2 * tokens * weights / self.best,
            "relative_error": self.error,
        }


def prepared(shape: tuple[int, int]) -> Iterator[Case]:
    """Each way with 1, 4 and 264 tokens, checked."""
    torch.manual_seed(0)
    matrices = [torch.randn(shape) * shape[1] ** -0.5 for _ in range(RING)]
    for name, way in WAYS.items():
        products = [way.make(matrix) for matrix in matrices[: 1 if way.is_slow else RING]]
        for tokens in (1, 4) if way.is_slow else (1, 4, 264):
            x = torch.randn(tokens, shape[1])
            expected, x = F.linear(x, matrices[0]), x.to(way.dtype)
            error = float((products[0](x).float() - expected).norm() / expected.norm())
            if not error < way.tolerance:
                raise SystemExit(f"{name}: relative error {error:.3f}, not {way.tolerance}")
            yield Case(name=name, shape=shape, products=products, x=x, error=error)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, by matrix and number of tokens."""
    lines = [
        "| matrix | tokens | way | ms | GB/s of its weights | GFLOP/s | relative error |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: (row["matrix"], row["tokens"])):
        rates = f"{row['bytes_per_second'] / 1e9:.1f} | {row['operations_per_second'] / 1e9:.0f}"
        lines.append(
            f"| {row['matrix']} | {row['tokens']} | {row['way']} | {row['seconds'] * 1e3:.2f} | {rates} | "
            f"{row['relative_error']:.3f} |"
        )
    return "\n".join(lines)


def plain(weight: Tensor) -> Product:
    """`F.linear` in bfloat16."""
    kept = weight.bfloat16()
    return lambda x: F.linear(x, kept)


def prepacked(weight: Tensor) -> Product:
    """The same with oneDNN's own layout of the weights."""
    kept = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16())
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, kept, None, "none", [], "")


def int8_pack(weight: Tensor) -> Product:
    """Weights of 8 bits, widened in the kernel; activations stay bfloat16."""
    kept, scales = rows_of_int8(weight)
    scales = scales.bfloat16()
    return lambda x: torch._weight_int8pack_mm(x, kept, scales)


def int4_pack(weight: Tensor) -> Product:
    """Weights of 4 bits in groups, widened in the kernel; activations stay bfloat16."""
    levels, scales = groups_of_int4(weight)
    kept = torch._convert_weight_to_int4pack_for_cpu(levels.int(), 1)
    pairs = torch.stack((scales, torch.zeros_like(scales)), -1).transpose(0, 1).bfloat16().contiguous()
    return lambda x: torch._weight_int4pack_mm_for_cpu(x, kept, GROUP, pairs)


def int4_dynamic(weight: Tensor) -> Product:
    """Weights of 4 bits in groups and activations of 8 bits."""
    levels, scales = groups_of_int4(weight)
    rows, columns = weight.shape
    pairs = (levels[:, 1::2] << 4 | levels[:, ::2]).to(torch.uint8)
    kept = torch.ops.aten._dyn_quant_pack_4bit_weight(pairs, scales.bfloat16(), None, GROUP, columns, rows)
    return lambda x: torch.ops.aten._dyn_quant_matmul_4bit(x, kept, GROUP, columns, rows)


def int8_onednn(weight: Tensor) -> Product:
    """oneDNN's product of two matrices of 8 bits, each row of both with its own scale."""
    levels, scales = rows_of_int8(weight)
    kept = torch.ops.onednn.qlinear_prepack(levels, None)
    zeros = torch.zeros(len(weight), dtype=torch.int32)

    def product(x: Tensor) -> Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        # Unsigned around 128: with signed activations oneDNN has only its reference code here, 100 × slower.
        narrow = (x / scale).add_(128).round_().to(torch.uint8)
        arguments = (1.0, 128, kept, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        return torch.ops.onednn.qlinear_pointwise(narrow, *arguments).mul_(scale)

    return product


def int8_matrix(weight: Tensor) -> Product:
    """PyTorch's product of two matrices of 8 bits without scales."""
    levels, scales = rows_of_int8(weight)
    kept = levels.t()

    def product(x: Tensor) -> Tensor:
        narrow, scale = rows_of_int8(x)
        return torch._int_mm(narrow, kept) * scales * scale[:, None]

    return product


def int8_fbgemm(weight: Tensor) -> Product:
    """FBGEMM's product with activations that it makes 8 bits itself, one scale for all of them."""
    levels, scales = rows_of_int8(weight)
    quantized = torch._make_per_channel_quantized_tensor(
        levels, scales.double(), torch.zeros(len(weight), dtype=torch.int64), 0
    )
    kept = torch.ops.quantized.linear_prepack(quantized, None)
    return lambda x: torch.ops.quantized.linear_dynamic(x, kept, reduce_range=False)


def ours(bits: Bits, weight: Tensor) -> Product:
    """This package's kernel; activations are rounded to 8 bits in groups."""
    kept = low_bit_kernel.pack(quantize(weight, bits))
    return lambda x: low_bit_kernel.multiply(x, kept)


def rows_of_int8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 [rows, columns] and the float32 scale of each row."""
    scales = matrix.abs().amax(-1) / 127
    return (matrix / scales[:, None]).round_().to(torch.int8), scales


def groups_of_int4(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Levels 0 to 15 around 8, int64 [rows, columns], and float32 scales [rows, groups]."""
    grouped = matrix.unflatten(-1, (-1, GROUP))
    scales = grouped.abs().amax(-1) / 7
    levels = (grouped / scales[..., None]).round_() + 8
    return levels.flatten(-2).long(), scales


BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32
FOUR = 4 + 32 / GROUP
WAYS = {
    "bfloat16 `F.linear`": Way(bits=16, tolerance=0.01, dtype=BFLOAT16, make=plain),
    "bfloat16 prepacked": Way(bits=16, tolerance=0.01, dtype=BFLOAT16, make=prepacked),
    "`_weight_int8pack_mm`": Way(bits=8, tolerance=0.02, dtype=BFLOAT16, make=int8_pack),
    "`onednn.qlinear`": Way(bits=8, tolerance=0.03, dtype=FLOAT32, make=int8_onednn),
    "`_int_mm`": Way(bits=8, tolerance=0.03, dtype=FLOAT32, make=int8_matrix),
    "FBGEMM `linear_dynamic`": Way(bits=8, tolerance=0.03, dtype=FLOAT32, make=int8_fbgemm),
    "ours, 8 bits": Way(bits=8, tolerance=0.03, dtype=BFLOAT16, make=partial(ours, 8)),
    "ours, 4 bits": Way(bits=4 + 16 / GROUP, tolerance=0.2, dtype=BFLOAT16, make=partial(ours, 4)),
    "`_weight_int4pack_mm_for_cpu`": Way(bits=FOUR, tolerance=0.2, dtype=BFLOAT16, make=int4_pack),
    "`_dyn_quant_matmul_4bit`": Way(bits=FOUR, tolerance=0.2, dtype=FLOAT32, make=int4_dynamic, is_slow=True),
}


if __name__ == "__main__":
    main()
