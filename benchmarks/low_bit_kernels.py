"""PyTorch's own products with weights of 8 and 4 bits on a CPU, beside bfloat16.

    python benchmarks/low_bit_kernels.py --threads 2

The matrices are those of an MLP of the 3B model, each way with a ring of eight, larger than the
caches. The ways take turns in every round; a figure is the best of all rounds. Where a kernel wants
activations of 8 bits, making them is part of the time. The kernels have no public names, and differ in what
they expect: each is checked against the product in float32.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from half_kernels import seconds
from torch import Tensor

from paligemma2.jobs.bench import machine_name, read_rate

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
    rows: list[dict[str, Any]] = []
    cpu = torch.device("cpu")
    rates = [read_rate(cpu)]
    print("| matrix | tokens | way | ms | GB/s of its weights | GFLOP/s | relative error |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with torch.inference_mode():
        for shape in SHAPES:
            rows += measured(shape, arguments.rounds)
            rates.append(read_rate(cpu))
    print(f"\n{machine_name(cpu)}; it reads {max(rates) / 1e9:.1f} GB/s")
    if arguments.json:
        report = {"machine": machine_name(cpu), "torch": torch.__version__}
        report |= {"read_bytes_per_second": max(rates), "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measured(shape: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    """A row for each way and number of tokens, printed too."""
    torch.manual_seed(0)
    matrices = [torch.randn(shape) * shape[1] ** -0.5 for _ in range(RING)]
    ring = {
        name: [way.make(matrix) for matrix in matrices[: 1 if way.is_slow else RING]]
        for name, way in WAYS.items()
    }
    rows = []
    for tokens in (1, 4, 264):
        x = torch.randn(tokens, shape[1])
        expected = F.linear(x, matrices[0])
        ways = {name: way for name, way in WAYS.items() if tokens < 264 or not way.is_slow}
        inputs = {name: x.to(way.dtype) for name, way in ways.items()}
        errors = {
            name: float((ring[name][0](inputs[name]).float() - expected).norm() / expected.norm())
            for name in ways
        }
        best = dict.fromkeys(ways, float("inf"))
        for number in range(rounds):
            for name, way in ways.items():
                for _ in range(0 if way.is_slow and number else 1 if tokens > 4 else 4):
                    best[name] = min(best[name], seconds(ring[name], inputs[name]))
        for name, way in ways.items():
            if not errors[name] < way.tolerance:
                raise SystemExit(f"{name}: relative error {errors[name]:.3f}, not {way.tolerance}")
            weights = shape[0] * shape[1]
            row = {"matrix": shape, "tokens": tokens, "way": name, "seconds": best[name]}
            row |= {"bytes_per_second": weights * way.bits / 8 / best[name]}
            row |= {"flops": 2 * tokens * weights / best[name], "relative_error": errors[name]}
            rows.append(row)
            print(
                f"| {shape[0]} × {shape[1]} | {tokens} | {name} | {best[name] * 1e3:.2f} | "
                f"{row['bytes_per_second'] / 1e9:.1f} | {row['flops'] / 1e9:.0f} | {errors[name]:.3f} |"
            )
    return rows


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
    "`_weight_int4pack_mm_for_cpu`": Way(bits=FOUR, tolerance=0.2, dtype=BFLOAT16, make=int4_pack),
    "`_dyn_quant_matmul_4bit`": Way(bits=FOUR, tolerance=0.2, dtype=FLOAT32, make=int4_dynamic, is_slow=True),
}


if __name__ == "__main__":
    main()
