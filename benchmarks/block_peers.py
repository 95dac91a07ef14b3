"""One decoder block of the 3B model in OpenVINO, ONNX Runtime, PyTorch and this package.

    python -m venv PEERS
    PEERS/bin/pip install . openvino nncf onnx onnxruntime onnxscript
    PEERS/bin/python benchmarks/block_peers.py --threads 2

All ways compute the same block (attention with 264 tokens in the cache, soft-cap and rotary positions, MLP,
four norms) from the same random weights. Each has two blocks of different weights, 156 MB of bfloat16 each,
which take turns so that no cache holds them. All ways take turns in every round. A figure is the mean over a
pass through the two blocks, of the best pass and of the median one. What comes out is compared with the block
in float32: the relative error of what the block adds to its input must stay below the way's tolerance.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paligemma2.jobs.bench import machine_name, read_rate
from paligemma2.model.cache import KVCache
from paligemma2.model.config import TextConfig, preset
from paligemma2.model.gemma2 import GemmaLayer, RMSNorm, rotary_angles, rotate
from paligemma2.model.weight_forms import packed_form, quantized_form, refill

PAST = 264
COPIES = 2
CONFIG: TextConfig = preset("paligemma2-3b-pt-224").text
CPU, HALF = torch.device("cpu"), torch.bfloat16


@dataclass(frozen=True, kw_only=True)
class Case:
    """What goes through a block.

    Attributes:
        x: float32 [batch, seq, width].
        angles: cosines and sines of the new tokens, float32 [1, 1, seq, head_dim / 2].
        past: keys and values that are there already, float32 [batch, kv_heads, past, head_dim].
    """

    name: str
    passes: int
    x: Tensor
    angles: tuple[Tensor, Tensor]
    past: tuple[Tensor, Tensor]

    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs in the order of `Block.forward`."""
        return (self.x, *self.angles, *self.past)


Step = Callable[[], Any]
"""A block with its inputs in place."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to compute the block.

    Attributes:
        bits: that are read of each weight, scales included.
        tolerance: largest relative error.
        blocks: one for each set of weights; called with a case they give what is timed, and that gives
            [batch, seq, width] first.
    """

    bits: float
    tolerance: float
    blocks: list[Callable[[Case], Step]]


class Block(nn.Module):
    """The block in plain operations that exporters know, with the cache as an input that is not copied."""

    def __init__(self, layer: GemmaLayer) -> None:
        super().__init__()
        self.attention, self.mlp = layer.self_attn, layer.mlp
        names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        norms: list[RMSNorm] = [getattr(layer, f"{name}_layernorm") for name in names]
        self.norms = nn.ModuleList(PlainNorm(norm) for norm in norms)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past_k: Tensor, past_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The block's output, and the new keys and values for the caller's cache."""
        attention, (before, after, before_mlp, after_mlp) = self.attention, self.norms
        normed = before(x)
        q, k, v = (
            linear(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        batch, seq = x.shape[0], x.shape[1]
        grouped = q.reshape(batch, CONFIG.num_kv_heads, -1, attention.head_dim)
        # Logits of the past and of the new tokens side by side: no key is moved.
        logits = torch.cat((grouped @ past_k.transpose(2, 3), grouped @ k.transpose(2, 3)), dim=-1)
        weights = (attention.cap * torch.tanh(logits * (attention.scale / attention.cap))).softmax(-1)
        past = past_k.shape[2]
        attended = weights[..., :past] @ past_v + weights[..., past:] @ v
        attended = attended.reshape(batch, CONFIG.num_heads, seq, attention.head_dim).transpose(1, 2)
        x = x + after(attention.o_proj(attended.reshape(batch, seq, -1)))
        return x + after_mlp(self.mlp(before_mlp(x))), k, v


class PlainNorm(nn.Module):
    """`RMSNorm` written out, in the dtype of its input: the form that both compilers fuse."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("scale", 1.0 + norm.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x / torch.sqrt(mean + self.eps) * self.scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="ways whose names hold one of these words")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layers = [random_layer(seed) for seed in range(COPIES)]
    cases = list(all_cases())
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        expected = {case.name: Block(layers[0])(*case.tensors())[0] for case in cases}
        found = all_ways(layers, Path(folder), arguments.threads)
        ways = {name: way for name, way in found if any(word in name for word in arguments.only)}
        rows, rate = measure(ways, cases, expected, arguments.rounds)
    report = {
        "machine": machine_name(CPU),
        "tolerances": {name: way.tolerance for name, way in ways.items()},
        "versions": {name: version(name) for name in ("torch", "openvino", "nncf", "onnxruntime")},
        "read_bytes_per_second": rate,
        "rows": rows,
    }
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def random_layer(seed: int) -> GemmaLayer:
    """A block in float32 whose weights are exact in bfloat16."""
    torch.manual_seed(seed)
    layer = GemmaLayer(CONFIG, 0).eval().requires_grad_(False)
    for parameter in layer.parameters():
        is_matrix = parameter.dim() > 1
        parameter.normal_(0.0, parameter.shape[-1] ** -0.5 if is_matrix else 0.1)
        parameter.copy_(parameter.bfloat16())
    return layer


def all_cases() -> Iterator[Case]:
    """One token and four rows after a prompt, and the prompt itself."""
    generator = torch.Generator().manual_seed(1)
    for name, batch, seq, past, passes in (
        ("decode 1", 1, 1, PAST, 10),
        ("decode 4", 4, 1, PAST, 10),
        ("read 264", 1, PAST, 0, 1),
    ):
        shape = (batch, CONFIG.num_kv_heads, past, CONFIG.head_dim)
        keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
        angles = rotary_angles(torch.arange(past, past + seq)[None], CONFIG.head_dim, CONFIG.rope_theta)
        x = torch.randn(batch, seq, CONFIG.hidden_size, generator=generator)
        yield Case(name=name, passes=passes, x=x, angles=angles, past=(keys, values))


def all_ways(layers: list[GemmaLayer], folder: Path, threads: int) -> Iterator[tuple[str, Way]]:
    """Every way with its name; the first is the yardstick."""
    yield "torch bfloat16", torch_way(layers)
    yield from ours(layers)
    yield from openvino_ways(layers, threads)
    yield from onnx_ways(layers, folder, threads)


def torch_way(layers: list[GemmaLayer]) -> Way:
    """PyTorch alone: `F.linear` in bfloat16."""
    # Not `.bfloat16()` of the layer itself, which the others read.
    blocks = [Block(copy_of(layer)).bfloat16() for layer in layers]

    def prepared(block: Block, case: Case) -> Step:
        tensors = [tensor.bfloat16() for tensor in case.tensors()]
        return lambda: block(*tensors)

    return Way(bits=16, tolerance=0.03, blocks=[lambda case, b=b: prepared(b, case) for b in blocks])


def copy_of(layer: GemmaLayer) -> GemmaLayer:
    """Another block with the same weights."""
    copy = GemmaLayer(CONFIG, 0).eval().requires_grad_(False)
    copy.load_state_dict(layer.state_dict())
    return copy


def ours(layers: list[GemmaLayer]) -> Iterator[tuple[str, Way]]:
    """This package's block with its own cache, by the name of each form of its weights."""
    for name, form, bits, tolerance in (
        ("ours bfloat16", packed_form(HALF), 16, 0.03),
        ("ours int8", quantized_form("int8", HALF), 8, 0.05),
        ("ours int4", quantized_form("int4", HALF), 4.125, 0.3),
        ("ours w8a8", quantized_form("w8a8", HALF), 8, 0.05),
    ):
        decoder = nn.ModuleDict({"layers": nn.ModuleList(copy_of(layer).bfloat16() for layer in layers)})
        refill(nn.ModuleDict({"language_model": decoder}), form, table="")
        yield name, our_way(list(decoder["layers"]), bits=bits, tolerance=tolerance)


def our_way(blocks: list[GemmaLayer], *, bits: float, tolerance: float) -> Way:
    """Blocks, in any form that is called like a `GemmaLayer`, which compute in bfloat16."""

    def prepared(block: GemmaLayer, case: Case) -> Step:
        x, (keys, values) = case.x.to(HALF), case.past
        cos, sin = (each.to(HALF) for each in case.angles)
        batch, past, seq = len(x), keys.shape[2], x.shape[1]
        cache = KVCache.reserve(CONFIG, batch, past + seq, dtype=HALF, device=CPU)
        cache.keys[0, :, :, :past], cache.values[0, :, :, :past] = keys, values
        cache.lengths = [past] * batch
        visible = torch.ones(batch, 1, seq, past + seq, dtype=torch.bool)
        return lambda: (block(x, (cos, sin), visible, cache),)

    return Way(bits=bits, tolerance=tolerance, blocks=[partial(prepared, block) for block in blocks])


def openvino_ways(layers: list[GemmaLayer], threads: int) -> Iterator[tuple[str, Way]]:
    """OpenVINO with weights compressed by NNCF; it computes as it chooses to on this processor."""
    import nncf
    import openvino

    int8, int4 = nncf.CompressWeightsMode.INT8_SYM, nncf.CompressWeightsMode.INT4_SYM
    forms: dict[str, tuple[dict[str, Any] | None, float, float]] = {
        "OpenVINO bfloat16": (None, 16, 0.03),
        "OpenVINO int8": ({"mode": int8}, 8, 0.05),
        "OpenVINO int4, groups of 128": (
            {"mode": int4, "group_size": 128, "ratio": 1.0, "all_layers": True},
            4 + 16 / 128,
            0.3,
        ),
    }
    for name, (compression, bits, tolerance) in forms.items():
        blocks = []
        for layer in layers:
            model = openvino.convert_model(Block(layer), example_input=next(all_cases()).tensors())
            if compression:
                model = nncf.compress_weights(model, **compression)
            settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
            request = openvino.compile_model(model, "CPU", settings).create_infer_request()
            blocks.append(lambda case, request=request: openvino_step(request, case))
        yield name, Way(bits=bits, tolerance=tolerance, blocks=blocks)


def openvino_step(request: Any, case: Case) -> Step:
    inputs = [tensor.numpy() for tensor in case.tensors()]
    return lambda: list(request.infer(inputs, share_inputs=True, share_outputs=True).values())


def onnx_ways(layers: list[GemmaLayer], folder: Path, threads: int) -> Iterator[tuple[str, Way]]:
    """ONNX Runtime: MatMulNBits, whose activations become int8, and its own dynamic quantisation."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    def quantized(path: str, name: str) -> str:
        if name.endswith("dynamic"):
            quantize_dynamic(path, f"{path}.q", per_channel=True, op_types_to_quantize=["MatMul"])
        else:
            bits, group = (int(word) for word in name.split() if word.isdecimal())
            quantizer = MatMulNBitsQuantizer(path, bits, group, is_symmetric=True, accuracy_level=4)
            quantizer.process()
            quantizer.model.save_model_to_file(f"{path}.q")
        return f"{path}.q"

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads wait in a loop for more work, and would take the next way's time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    paths = [exported(layer, folder / f"{number}.onnx") for number, layer in enumerate(layers)]
    for name, bits, tolerance in (
        ("ONNX Runtime dynamic", 8.0, 0.05),
        ("ONNX Runtime 8 bits, groups of 128", 8 + 32 / 128, 0.05),
        ("ONNX Runtime 4 bits, groups of 128", 4 + 32 / 128, 0.3),
        ("ONNX Runtime 4 bits, groups of 32", 4 + 32 / 32, 0.3),
    ):
        blocks = []
        for path in paths:
            session = onnxruntime.InferenceSession(quantized(path, name), options)
            blocks.append(lambda case, session=session: onnx_step(session, case))
        yield name, Way(bits=bits, tolerance=tolerance, blocks=blocks)


def exported(layer: GemmaLayer, path: Path) -> str:
    """The block as an ONNX file, of any batch, length and past."""
    names = ["x", "cos", "sin", "past_k", "past_v"]
    axes = {"x": {0: "batch", 1: "seq"}, "cos": {2: "seq"}, "sin": {2: "seq"}}
    axes |= {name: {0: "batch", 2: "past"} for name in ("past_k", "past_v")}
    axes |= {"y": axes["x"]} | {name: {0: "batch", 2: "seq"} for name in ("k", "v")}
    torch.onnx.export(
        Block(layer),
        next(all_cases()).tensors(),
        path,
        input_names=names,
        output_names=["y", "k", "v"],
        dynamic_axes=axes,
        opset_version=20,
        dynamo=False,
    )
    return str(path)


def onnx_step(session: Any, case: Case) -> Step:
    names = [each.name for each in session.get_inputs()]
    inputs = dict(zip(names, (tensor.numpy() for tensor in case.tensors()), strict=True))
    return lambda: session.run(None, inputs)


def measure(
    ways: dict[str, Way], cases: list[Case], expected: dict[str, Tensor], rounds: int
) -> tuple[list[dict[str, Any]], float]:
    """A row for each case and way, and the best rate of reading memory, bytes per second."""
    pairs = [(case, name) for case in cases for name in ways]
    steps = {(case.name, name): [block(case) for block in ways[name].blocks] for case, name in pairs}
    errors: dict[tuple[str, str], float] = {}
    for case, name in pairs:
        key = case.name, name
        errors[key] = error = relative_error(steps[key][0](), case, expected[case.name])
        if not error < ways[name].tolerance:
            raise SystemExit(f"{name}, {case.name}: relative error {error:.3f}, not {ways[name].tolerance}")
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    rates = []
    for _ in range(rounds):
        rates.append(read_rate(CPU))
        for case, name in pairs:
            time.sleep(0.02)  # threads of the way before go to sleep
            taken[case.name, name] += seconds(steps[case.name, name], case.passes)
    weights = sum(parameter.numel() for parameter in GemmaLayer(CONFIG, 0).parameters())
    rows = []
    for (case_name, name), values in taken.items():
        size = weights * ways[name].bits / 8
        rows.append(
            {
                "case": case_name,
                "way": name,
                "seconds": min(values),
                "seconds_median": statistics.median(values),
                "bytes": size,
                "bytes_per_second": size / min(values),
                "times_torch": min(taken[case_name, next(iter(ways))]) / min(values),
                "relative_error": errors[case_name, name],
            }
        )
    return rows, max(rates)


def relative_error(outputs: Any, case: Case, expected: Tensor) -> float:
    """How far what the block adds to its input is from what it should be."""
    added = torch.as_tensor(np.asarray(outputs[0])) if not torch.is_tensor(outputs[0]) else outputs[0]
    difference = (added.float() - expected).norm() / (expected - case.x).norm()
    return float(difference)


def seconds(steps: list[Step], passes: int) -> list[float]:
    """Of a block, the mean over all blocks in each of so many passes, after one pass to warm up."""
    times = []
    for _ in range(1 + passes):
        start = time.perf_counter()
        for step in steps:
            step()
        times.append((time.perf_counter() - start) / len(steps))
    return times[1:]


def table(report: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = [
        f"{report['machine']}; it reads {report['read_bytes_per_second'] / 1e9:.1f} GB/s\n",
        "| case | way | ms | median | GB/s of its weights | × torch bfloat16 | relative error |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        times = f"{row['seconds'] * 1e3:.2f} | {row['seconds_median'] * 1e3:.2f}"
        rates = f"{row['bytes_per_second'] / 1e9:.1f} | {row['times_torch']:.2f}"
        lines.append(f"| {row['case']} | {row['way']} | {times} | {rates} | {row['relative_error']:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
