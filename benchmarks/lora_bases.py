"""What a step of LoRA takes on a base of 32, 16, 8 and 4 bits, and with transformers and peft.

    python benchmarks/lora_bases.py
    python benchmarks/lora_bases.py --json benchmarks/results/lora_bases.json

A checkpoint of the real widths and the full vocabulary with random weights, `--layers` blocks in each tower,
and an adapter of rank 8 on all linear layers of the decoder are written to a temporary folder. All sides
alternate as processes of their own, each of which loads both and goes forward and backward over the same
batch. Compared are the best time of a step, the memory of the weights, the largest memory of a step beyond
what was there before, the loss, and the norm of the gradient of the adapter.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vs_transformers import CPU, with_layers

from paligemma2.checkpoint.adapter import read_adapter, save_adapter
from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.save import save_model
from paligemma2.inference.devices import form_for
from paligemma2.jobs.bench import machine_name, random_model
from paligemma2.jobs.versions import versions
from paligemma2.model.config import ModelConfig, preset
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_adapter, add_fresh_adapter, take_out
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import stored_bytes
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.objective import SuffixObjective

SIDES = ("peft float32", "float32", "peft bfloat16", "bfloat16", "int8", "int4")
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=448)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--text-tokens", type=int, default=32, help="of the prefix, and of the suffix")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.folder, arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(Path(folder), arguments)
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    config = with_layers(preset(f"paligemma2-3b-pt-{arguments.image_size}"), arguments.layers)
    model = random_model(config)
    save_model(folder / "base", model, config, dtype=torch.bfloat16)
    add_fresh_adapter(model, LoraSettings(rank=8))
    for name, parameter in model.named_parameters():
        if name.endswith(".lora_b"):
            parameter.data.normal_(0.0, 0.01, generator=torch.Generator().manual_seed(len(name)))
    save_adapter(folder / "adapter", take_out(model), config)
    del model
    rounds = [{side: run_side(side, folder) for side in SIDES} for _ in range(arguments.rounds)]
    rows = []
    for side in SIDES:
        best = min((each[side] for each in rounds), key=lambda figures: figures["step_seconds"])
        rows.append({"side": side, **best, "beyond": min(each[side]["beyond"] for each in rounds)})
    settings = {name: getattr(arguments, name) for name in ("image_size", "layers", "batch", "text_tokens")}
    return {"machine": machine_name(CPU), "versions": versions(), "settings": settings, "rows": rows}


def run_side(side: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def measure(side: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    model, weight_bytes, loss_of = theirs(side, folder) if side.startswith("peft") else ours(side, folder)
    inputs = random_batch(read_config(folder / "base"), arguments.batch, arguments.text_tokens)
    model.train()
    before, seconds = resident_bytes("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    for _ in range(STEPS):
        model.zero_grad()
        start = time.perf_counter()
        loss = loss_of(inputs)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return {
        "step_seconds": min(seconds),
        "weights": weight_bytes,
        "beyond": resident_bytes("VmHWM") - before,
        "loss": loss.item(),
        "gradient_norm": torch.stack(squares).sum().sqrt().item(),
    }


Side = tuple[nn.Module, float, Callable[[ModelInputs], Tensor]]


def ours(side: str, folder: Path) -> Side:
    """On weights of this dtype, or of few bits under activations in bfloat16."""
    few_bits = side if side.startswith("int") else None
    form = partial(form_for, CPU, may_pack=False, quantize=few_bits)
    dtype = torch.float32 if side == "float32" else torch.bfloat16
    loaded = load_model(folder / "base", dtype=dtype, form_for=form)
    weights = stored_bytes(loaded.model)
    add_adapter(loaded.model, read_adapter(folder / "adapter", loaded.config))
    return loaded.model, weights, SuffixObjective(loaded.model, average="token")


def theirs(side: str, folder: Path) -> Side:
    """`transformers` and `peft` with their defaults, on weights of this dtype."""
    from peft import PeftModel
    from transformers import PaliGemmaForConditionalGeneration

    dtype = getattr(torch, side.removeprefix("peft "))
    base = PaliGemmaForConditionalGeneration.from_pretrained(folder / "base", dtype=dtype)
    weights = stored_bytes(base)
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)

    def loss_of(inputs: ModelInputs) -> Tensor:
        assert inputs.loss_weights is not None
        loss: Tensor = model(
            input_ids=inputs.token_ids,
            pixel_values=inputs.pixel_values.to(dtype),
            attention_mask=inputs.layout.is_valid.long(),
            token_type_ids=(~inputs.layout.is_prefix).long(),
            labels=inputs.token_ids.masked_fill(inputs.loss_weights == 0, -100),
        ).loss
        return loss

    return model, weights, loss_of


def random_batch(config: ModelConfig, rows: int, text_tokens: int) -> ModelInputs:
    """A picture of noise, a random prefix and a random suffix in each row."""
    generator = torch.Generator().manual_seed(0)
    slots = torch.full((rows, config.num_image_tokens), config.image_token_id)
    words = torch.randint(3, config.num_text_rows, (rows, 2 * text_tokens), generator=generator)
    token_ids, size = torch.cat((slots, words), dim=1), config.vision.image_size
    is_suffix = (torch.arange(token_ids.shape[1]) >= token_ids.shape[1] - text_tokens).expand_as(token_ids)
    return ModelInputs(
        token_ids=token_ids,
        pixel_values=torch.rand(rows, 3, size, size, generator=generator) * 2 - 1,
        image_index=torch.arange(rows),
        layout=PrefixLayout.from_flags(torch.ones_like(is_suffix), ~is_suffix),
        loss_weights=is_suffix.float(),
        ids=("",) * rows,
    )


def resident_bytes(name: str) -> int:
    """`VmRSS`: what this process holds now; `VmHWM`: the most since its peak was reset."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def table(report: dict[str, Any]) -> str:
    lines = [
        "| base | step (s) | weights (GB) | step beyond them (GB) | loss | gradient |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['side']} | {row['step_seconds']:.2f} | {row['weights'] / 1e9:.2f} "
        f"| {row['beyond'] / 1e9:.2f} | {row['loss']:.4f} | {row['gradient_norm']:.4f} |"
        for row in report["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
