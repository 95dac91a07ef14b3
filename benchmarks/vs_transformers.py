"""Time to the first token, time per token, and start-up, against transformers on the same random weights.

    python benchmarks/vs_transformers.py
    python benchmarks/vs_transformers.py --layers 4 --json benchmarks/results/vs_transformers.json

A checkpoint of the real widths is written to a temporary folder. The two sides alternate as processes of
their own, each of which loads it and answers the same prompts greedily; a figure is the best of all rounds.
With `--layers` both towers have fewer blocks, so that a slow machine is done in minutes.

Floors are arithmetic: multiplications over the best matrix rate measured here, bytes of weights over the best
read rate. What is written is compared too: the token that we find most likely after each of the peer's tokens
should be, for the peer, within 2 units in the last place of bfloat16 of its own best.
"""

import argparse
import dataclasses
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.save import save_model
from paligemma2.inference.decoding import decode
from paligemma2.inference.devices import form_for, has_bfloat16_arithmetic
from paligemma2.jobs.bench import (
    Limits,
    floors,
    machine_name,
    matrix_rate,
    parameter_counts,
    peak_bytes,
    random_model,
    random_prompts,
    read_rate,
)
from paligemma2.jobs.versions import versions
from paligemma2.model.config import ModelConfig, preset
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

BATCHES = (1, 4)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3b", help="3b, 10b or 28b")
    parser.add_argument("--layers", type=int, help="blocks of each tower, all by default")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        measured = measure_side(SIDES[arguments.side](arguments.folder), arguments)
        print(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(config_of(arguments.size, arguments.layers), Path(folder), arguments)
    print(table(report))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def config_of(size: str, layers: int | None) -> ModelConfig:
    """The 224 px model of this size, with fewer blocks if asked."""
    config = preset(f"paligemma2-{size}-pt-224")
    if layers is None:
        return config
    text = dataclasses.replace(
        config.text, num_layers=layers, sliding_layers=config.text.sliding_layers[:layers]
    )
    return dataclasses.replace(
        config, text=text, vision=dataclasses.replace(config.vision, num_layers=layers)
    )


class Ours:
    """This package."""

    def __init__(self, folder: Path) -> None:
        loaded = load_model(folder, form_for=partial(form_for, CPU))
        self.model, self.config = loaded.model, loaded.config

    def answer(self, inputs: ModelInputs, tokens: int) -> tuple[list[float], list[int]]:
        """The times at which each token was there, and the tokens of the first row."""
        times, ids = [], []
        for step in decode(self.model, inputs, Decoding(max_new_tokens=tokens)):
            times.append(time.perf_counter())
            ids.append(step[0].id if step[0] else -1)
        return times, ids

    @torch.inference_mode()
    def best_after(self, inputs: ModelInputs, given: list[int]) -> list[int]:
        """The most likely token in place of each of the given ones, after those before it."""
        model = self.model
        image_tokens = model.encode_images(inputs.pixel_values)
        logits, cache = model.prefill(inputs.token_ids, image_tokens, inputs.layout, len(given))
        rest = model.extend(torch.tensor([given[:-1]]), cache)
        whole = torch.cat((logits[:, None], rest), dim=1)[0, :, : self.config.num_text_rows]
        best: list[int] = whole.argmax(dim=-1).tolist()
        return best


class Peer:
    """transformers, as a user would call it."""

    def __init__(self, folder: Path) -> None:
        from transformers import PaliGemmaForConditionalGeneration

        self.model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.config = read_config(folder)
        self.logits = torch.empty(0)

    def answer(self, inputs: ModelInputs, tokens: int) -> tuple[list[float], list[int]]:
        """As `Ours.answer`; keeps the logits of the first row."""
        times: list[float] = []

        def stamp(ids: Tensor, scores: Tensor) -> Tensor:
            times.append(time.perf_counter())
            return scores

        with torch.inference_mode():
            made = self.model.generate(
                input_ids=inputs.token_ids,
                attention_mask=torch.ones_like(inputs.token_ids),
                token_type_ids=torch.zeros_like(inputs.token_ids),
                pixel_values=inputs.pixel_values.bfloat16(),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                logits_processor=[stamp],
                output_logits=True,
                return_dict_in_generate=True,
            )
        self.logits = torch.stack([step[0].float() for step in made.logits])
        ids: list[int] = made.sequences[0, inputs.token_ids.shape[1] :].tolist()
        return times, ids


SIDES: dict[str, Callable[[Path], Any]] = {"ours": Ours, "transformers": Peer}


def measure_side(side: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """What one process measures: seconds by row, the tokens, and the largest resident memory."""
    config, folder = side.config, arguments.folder
    seconds: dict[str, float] = {}
    times, tokens = side.answer(random_prompts(config, 1), 1)
    seconds["load_to_first_answer"] = time.time() - arguments.started
    for batch in BATCHES:
        inputs = random_prompts(config, batch)
        start = time.perf_counter()
        times, written = side.answer(inputs, arguments.tokens)
        seconds[f"first_token_b{batch}"] = times[0] - start
        steps = [after - before for before, after in itertools.pairwise(times)]
        seconds[f"decode_b{batch}"] = min(steps)
        if batch == 1:
            tokens = written
            if isinstance(side, Peer):
                save_file(
                    {"logits": side.logits, "tokens": torch.tensor(tokens)}, folder / "peer.safetensors"
                )
    measured: dict[str, Any] = {"seconds": seconds, "tokens": tokens}
    measured["peak_bytes"] = peak_bytes(CPU)
    if isinstance(side, Ours):
        measured |= agreement(side, folder)
    return measured


def agreement(ours: Ours, folder: Path) -> dict[str, Any]:
    """How far, for the peer, our choices lie below its own, in units in the last place of bfloat16."""
    peer = load_file(folder / "peer.safetensors")
    logits, given = peer["logits"][:, : ours.config.num_text_rows], peer["tokens"].tolist()
    best = ours.best_after(random_prompts(ours.config, 1), given)
    gaps = []
    for row, token in zip(logits, best, strict=True):
        highest = row.max().item()
        unit = 2.0 ** (math.floor(math.log2(abs(highest))) - 7)
        gaps.append((highest - row[token].item()) / unit)
    return {"largest_gap_ulp": max(gaps), "gaps_ulp": gaps}


def compare(config: ModelConfig, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, the best of all rounds."""
    save_model(folder / "model", random_model(config), config, dtype=torch.bfloat16, files_from=None)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    rates = [matrix_rate(CPU), read_rate(CPU)]
    for _ in range(arguments.rounds):
        for name in ("transformers", "ours"):
            rounds[name].append(run_side(name, folder / "model", arguments))
        rates = [max(pair) for pair in zip(rates, (matrix_rate(CPU), read_rate(CPU)), strict=True)]
    best = {
        name: {row: min(each["seconds"][row] for each in measured) for row in measured[0]["seconds"]}
        for name, measured in rounds.items()
    }
    limits = Limits(flops_per_second=rates[0], bytes_per_second=rates[1])
    counts = parameter_counts(config)
    decoder_bytes = 2 * (counts["blocks"] + counts["embedding"])
    least = {
        f"{name}_b{batch}": seconds
        for batch in BATCHES
        for name, seconds in floors(config, batch, limits, decoder_bytes).items()
    }
    first_ours, first_peer = rounds["ours"][0], rounds["transformers"][0]
    same = [a == b for a, b in zip(first_ours["tokens"], first_peer["tokens"], strict=True)]
    return {
        "machine": machine_name(CPU),
        "versions": versions() | {"transformers": __import__("transformers").__version__},
        "model": {"size": arguments.size, "layers": arguments.layers or "all", "tokens": arguments.tokens},
        "measured": {
            "matrix_flops_per_second": rates[0],
            "read_bytes_per_second": rates[1],
            "has_bfloat16_arithmetic": has_bfloat16_arithmetic(),
        },
        "rows": [
            {
                "row": row,
                "ours": best["ours"][row],
                "peer": best["transformers"][row],
                "ratio": best["transformers"][row] / best["ours"][row],
                "floor": least.get(row),
            }
            for row in best["ours"]
        ],
        "peak_bytes": {name: min(each["peak_bytes"] for each in rounds[name]) for name in rounds},
        "weight_bytes": 2 * sum(parameter_counts(config).values()),
        "largest_gap_ulp": first_ours["largest_gap_ulp"],
        "first_divergence": same.index(False) if False in same else None,
    }


def run_side(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One process of one side."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder)]
    command += ["--tokens", str(arguments.tokens), "--threads", str(arguments.threads)]
    command += ["--started", str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, {row: round(value, 3) for row, value in measured["seconds"].items()}, file=sys.stderr)
    return measured


def table(report: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = [
        "| row | ours (s) | transformers (s) | ratio | floor (s) | floor / ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        floor = row["floor"]
        limit = ("-", "-") if floor is None else (f"{floor:.3f}", f"{floor / row['ours']:.0%}")
        lines.append(
            f"| {row['row']} | {row['ours']:.3f} | {row['peer']:.3f} | {row['ratio']:.1f} | "
            f"{limit[0]} | {limit[1]} |"
        )
    peaks = report["peak_bytes"]
    lines.append(
        f"\npeak memory {peaks['ours'] / 1e9:.2f} GB against {peaks['transformers'] / 1e9:.2f} GB, weights "
        f"{report['weight_bytes'] / 1e9:.2f} GB; largest gap {report['largest_gap_ulp']:.2f} ulp"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
