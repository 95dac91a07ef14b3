"""Memory of long inputs: stated by arithmetic and measured, above the weights.

    python benchmarks/long_inputs.py
    python benchmarks/long_inputs.py --layers 2 --dtype float32 --json benchmarks/results/long_inputs.json

The cases are one picture at 896 px (4096 image tokens), 16 frames at 224 px of a video that is read with PyAV
(4096 too), and two pictures at 224 px (512). Each is a process of its own, which makes random weights of the
real widths and answers one prompt; with `--layers` both towers have fewer blocks. Measured is by how much the
resident memory (on a GPU: what is allocated) grew at its largest while the input was read, prepared and
answered. Needs Linux, or a GPU.
"""

import argparse
import ctypes
import dataclasses
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from vs_transformers import with_layers

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.inference.decoding import decode
from paligemma2.inference.devices import device_named, dtype_named, form_for
from paligemma2.jobs.bench import machine_name, parameter_counts, random_model
from paligemma2.jobs.versions import versions
from paligemma2.model.config import SIZES, ModelConfig, preset
from paligemma2.model.memory import MemoryPlan, inference_memory
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import refill, stored_bytes
from paligemma2.processing.image import image_to_array
from paligemma2.processing.processor import ModelInputs
from paligemma2.processing.video import read_clip
from paligemma2.types import Clip, Decoding

TEXT_TOKENS = 8
FRAMES, STRIDE = 16, 9
CASES = {
    "one picture, 896 px": (896, 1),
    f"{FRAMES} frames, 224 px": (224, FRAMES),
    "two pictures, 224 px": (224, 2),
}
"""Side in pixels, and pictures for the model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3b", choices=["tiny", *SIZES])
    parser.add_argument("--layers", type=int, help="blocks of each tower, all by default")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=4, help="tokens of the answer")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure_case(arguments)))
        return
    rows = [run_case(case) for case in CASES]
    report = {
        "machine": machine_name(device_named(arguments.device)),
        "versions": versions(),
        "model": {"size": arguments.size, "layers": arguments.layers or "all", "dtype": arguments.dtype},
        "rows": rows,
    }
    print(table(rows))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def run_case(case: str) -> dict[str, Any]:
    """What a process of its own measures, with the flags that this one has."""
    command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(case, f"{row['measured'] / 1e9:.3f} GB", file=sys.stderr)
    return row


def measure_case(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stated and measured bytes of one case."""
    side, pictures = CASES[arguments.case]
    config = config_of(arguments.size, side, arguments.layers)
    whole = config_of(arguments.size, side, None)
    device = device_named(arguments.device)
    model = random_model(config).to(device, dtype_named(arguments.dtype))
    refill(model, form_for(device, model.dtype), table=EMBEDDING)
    weights = stored_bytes(model)
    share = count(whole) / count(config)
    plan = plan_of(config, pictures, arguments.tokens, model.dtype, weights)
    with tempfile.TemporaryDirectory() as folder:
        read = frames_of(save_noise(Path(folder) / "clip.mp4"), side)
        source = read if pictures == FRAMES else lambda: pictures_of(pictures, side)

        def answer() -> None:
            inputs = prompt_about(config, source())
            for _ in decode(model, inputs, Decoding(max_new_tokens=arguments.tokens)):
                pass

        measured = growth(answer, device)
    return {
        "case": arguments.case,
        "prompt_tokens": pictures * config.num_image_tokens + TEXT_TOKENS,
        "stated": asdict(plan),
        "measured": measured,
        "ratio": measured / (plan.kv_cache + plan.activations),
        "stated_all_layers": asdict(
            plan_of(whole, pictures, arguments.tokens, model.dtype, round(weights * share))
        ),
    }


def count(config: ModelConfig) -> int:
    """Weights of the model."""
    return sum(parameter_counts(config).values())


def config_of(size: str, side: int, layers: int | None) -> ModelConfig:
    """The model of this size for pictures of this side, with fewer blocks if asked."""
    known = preset("tiny" if size == "tiny" else f"paligemma2-{size}-pt-224")
    vision = dataclasses.replace(known.vision, image_size=side)
    text = dataclasses.replace(known.text, max_positions=8192)
    return with_layers(dataclasses.replace(known, vision=vision, text=text), layers)


def plan_of(config: ModelConfig, pictures: int, tokens: int, dtype: torch.dtype, weights: int) -> MemoryPlan:
    return inference_memory(
        config,
        batch=1,
        images=pictures,
        prompt_tokens=pictures * config.num_image_tokens + TEXT_TOKENS,
        max_new_tokens=tokens,
        dtype=dtype,
        weights=weights,
    )


def pictures_of(count: int, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sources = (rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(count))
    return [image_to_array(Image.fromarray(source), side) for source in sources]


def frames_of(path: Path, side: int) -> Callable[[], list[np.ndarray]]:
    return lambda: list(read_clip(Clip(path, num_frames=FRAMES, stride=STRIDE), side))


def save_noise(path: Path) -> Path:
    """A video of 640 × 360 pixels, with just as many frames as are needed."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range((FRAMES - 1) * STRIDE + 1):
            pixels = rng.integers(0, 256, (36, 64, 3), dtype=np.uint8).repeat(10, axis=0).repeat(10, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def prompt_about(config: ModelConfig, pictures: list[np.ndarray]) -> ModelInputs:
    """One prompt of random text about all pictures."""
    count = len(pictures)
    image = torch.full((1, count * config.num_image_tokens), config.image_token_id)
    text = torch.randint(3, 1000, (1, TEXT_TOKENS), generator=torch.Generator().manual_seed(0))
    ids = torch.cat((image, text), dim=1)
    everything = torch.ones_like(ids, dtype=torch.bool)
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.from_numpy(np.stack(pictures)),
        image_index=torch.arange(count),
        layout=PrefixLayout.from_flags(everything, everything),
        loss_weights=None,
        ids=("",),
    )


def growth(work: Callable[[], None], device: torch.device) -> int:
    """By how many bytes memory grew at its largest."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, in megabytes (stated is without weights), and the arithmetic for all layers."""
    lines = [
        "| input | prompt | weights | KV cache | activations | stated | measured | measured / stated |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        measured = f"{row['measured'] / 1e6:.0f} | {row['ratio']:.2f}"
        lines.append(f"| {row['case']} | {row['prompt_tokens']} | {cells_of(row['stated'])} | {measured} |")
    lines += ["", "stated for all layers:", "", *lines[:2]]
    lines += [
        f"| {row['case']} | {row['prompt_tokens']} | {cells_of(row['stated_all_layers'])} | - | - |"
        for row in rows
    ]
    return "\n".join(lines)


def cells_of(stated: dict[str, int]) -> str:
    above = stated["kv_cache"] + stated["activations"]
    return " | ".join(f"{value / 1e6:.0f}" for value in (*stated.values(), above))


if __name__ == "__main__":
    main()
