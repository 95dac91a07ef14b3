"""Time to the first token, time per token, start-up and memory against transformers, on the same weights.

    python benchmarks/vs_transformers.py
    python benchmarks/vs_transformers.py --layers 4 --json benchmarks/results/vs_transformers.json
    python benchmarks/vs_transformers.py --llama PEERS/bin/python --gguf q4_0.gguf

A checkpoint of the real widths with random weights is written to a temporary folder. All sides
(transformers, this package in bfloat16 and with weights of few bits, and llama.cpp where `--llama` names a
Python that has it, see `llama_cpp_peer.py`) alternate as processes of their own, each of which loads the
checkpoint and answers the same prompts greedily; a figure is the best of all rounds. With `--layers` both
towers have fewer blocks, so that a slow machine is done in minutes.

Floors are arithmetic: multiplications over the best matrix rate measured here, bytes of weights as they are
kept over the rate of reading memory. On a shared machine that rate changes from second to second, so it is
measured after every step; the share of it is the median over the steps.

What is written is compared too: in float32, on a model of two blocks, tokens must be the same; in bfloat16
the token that we find most likely after each of the peer's should be, for the peer, within 2 units in the
last place of bfloat16 of its own best.
"""

import argparse
import dataclasses
import itertools
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
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
    peak_bytes,
    random_model,
    random_prompts,
    read_rate,
)
from paligemma2.jobs.versions import versions
from paligemma2.model.config import ModelConfig, preset
from paligemma2.model.weight_forms import Quantization, stored_bytes
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

BATCHES = (1, 4)
CPU = torch.device("cpu")
OURS, PEER = "bfloat16", "transformers"
FEW_BITS: tuple[Quantization, ...] = ("int8", "int4", "w8a8")
CHECKED_LAYERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3b", help="3b, 10b or 28b")
    parser.add_argument("--layers", type=int, help="blocks of each tower, all by default")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--llama", help="a Python in which llama_cpp_peer.py runs")
    parser.add_argument("--gguf", type=Path, help="its weights, kept or made here")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="bfloat16", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure_side(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(Path(folder), arguments)
    print(table(report))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def config_of(size: str, layers: int | None) -> ModelConfig:
    """The 224 px model of this size, with fewer blocks if asked."""
    return with_layers(preset(f"paligemma2-{size}-pt-224"), layers)


def with_layers(config: ModelConfig, layers: int | None) -> ModelConfig:
    """The same widths with so many blocks in each tower; None leaves them as they are."""
    if layers is None:
        return config
    sliding = config.text.sliding_layers[:layers]
    text = dataclasses.replace(config.text, num_layers=layers, sliding_layers=sliding)
    return dataclasses.replace(
        config, text=text, vision=dataclasses.replace(config.vision, num_layers=layers)
    )


class Ours:
    """This package.

    Args:
        folder: of the checkpoint.
        dtype: of the weights.
        quantize: how they are rounded, or None.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, quantize: Quantization | None) -> None:
        loaded = load_model(folder, dtype=dtype, form_for=partial(form_for, CPU, quantize=quantize))
        self.model, self.config = loaded.model, loaded.config

    def answer(self, inputs: ModelInputs, tokens: int) -> tuple[list[float], list[int]]:
        """The times at which each token was there, and the tokens of the first row."""
        times, ids = [], []
        for step in decode(self.model, inputs, Decoding(max_new_tokens=tokens)):
            times.append(time.perf_counter())
            ids.append(step[0].id if step[0] else -1)
        return times, ids

    def share_of_read_rate(self, inputs: ModelInputs, tokens: int) -> float:
        """How much of the rate of reading memory the steps reach that go on in turn with plain reading."""
        decoder_bytes = stored_bytes(self.model.language_model)
        data, shares = torch.ones(2**26), []
        steps = decode(self.model, inputs, Decoding(max_new_tokens=tokens))
        next(steps)
        start = time.perf_counter()
        for _ in steps:
            middle = time.perf_counter()
            data.sum()
            end = time.perf_counter()
            shares.append((decoder_bytes / (middle - start)) / (data.nbytes / (end - middle)))
            start = time.perf_counter()
        return statistics.median(shares)

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

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from transformers import PaliGemmaForConditionalGeneration

        self.model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
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
                pixel_values=inputs.pixel_values.to(self.model.dtype),
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


def measure_side(arguments: argparse.Namespace) -> dict[str, Any]:
    """What one process measures: seconds by row, the tokens, memory, and the rate of reading meanwhile."""
    folder, dtype = arguments.folder, getattr(torch, arguments.dtype)
    side: Any = (
        Peer(folder, dtype)
        if arguments.side == PEER
        else Ours(folder, dtype, None if arguments.side == OURS else arguments.side)
    )
    seconds: dict[str, float] = {}
    side.answer(random_prompts(side.config, 1), 1)
    seconds["load_to_first_answer"] = time.time() - arguments.started
    measured: dict[str, Any] = {"seconds": seconds, "peak_bytes": peak_bytes(CPU), "shares": {}}
    for batch in BATCHES if arguments.side in (OURS, PEER) else BATCHES[:1]:
        inputs = random_prompts(side.config, batch)
        start = time.perf_counter()
        times, written = side.answer(inputs, arguments.tokens)
        seconds[f"first_token_b{batch}"] = times[0] - start
        steps = [after - before for before, after in itertools.pairwise(times)]
        seconds[f"decode_b{batch}"] = min(steps)
        if isinstance(side, Ours):
            measured["shares"][f"decode_b{batch}"] = side.share_of_read_rate(inputs, arguments.tokens)
        if batch == 1:
            measured["tokens"] = written
            if isinstance(side, Peer):
                kept = {"logits": side.logits, "tokens": torch.tensor(written)}
                save_file(kept, folder / "peer.safetensors")
    if isinstance(side, Ours):
        measured["weight_bytes"] = stored_bytes(side.model)
        measured |= agreement(side, folder, measured["tokens"])
    return measured


def agreement(ours: Ours, folder: Path, written: list[int]) -> dict[str, Any]:
    """How far, for the peer, our choices lie below its own, in units in the last place of bfloat16.

    After its own tokens (teacher-forced), and where the free answers first differ.
    """
    peer = load_file(folder / "peer.safetensors")
    logits, given = peer["logits"][:, : ours.config.num_text_rows], peer["tokens"].tolist()
    best = ours.best_after(random_prompts(ours.config, 1), given)
    gaps = [gap(row, token) for row, token in zip(logits, best, strict=True)]
    differ = [place for place, pair in enumerate(zip(written, given, strict=True)) if pair[0] != pair[1]]
    first = (
        None if not differ else {"token": differ[0], "gap_ulp": gap(logits[differ[0]], written[differ[0]])}
    )
    return {"largest_gap_ulp": max(gaps), "first_divergence": first}


def gap(logits: Tensor, token: int) -> float:
    """How far a token lies below the best one."""
    highest = logits.max().item()
    return (highest - logits[token].item()) / 2.0 ** (math.floor(math.log2(abs(highest))) - 7)


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn, the best of all rounds."""
    config = config_of(arguments.size, arguments.layers)
    same_in_float32 = equality(folder / "small", arguments)
    save_model(folder / "model", random_model(config), config, dtype=torch.bfloat16, files_from=None)
    names = (PEER, OURS, *FEW_BITS)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    llama: list[float] = []
    rates, reads = [matrix_rate(CPU)], [read_rate(CPU)]
    for _ in range(arguments.rounds):
        for name in names:
            rounds[name].append(run_side(name, folder / "model", arguments))
        rates.append(matrix_rate(CPU))
        reads.append(read_rate(CPU))
        if arguments.llama:
            llama.append(run_llama(arguments))
    best = {
        name: {row: min(each["seconds"][row] for each in measured) for row in measured[0]["seconds"]}
        for name, measured in rounds.items()
    }
    return {
        "machine": machine_name(CPU),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions() | {"transformers": __import__("transformers").__version__},
        "model": {"size": arguments.size, "layers": arguments.layers or "all", "tokens": arguments.tokens},
        "measured": {
            "matrix_flops_per_second": max(rates),
            "read_bytes_per_second": max(reads),
            "has_bfloat16_arithmetic": has_bfloat16_arithmetic(),
        },
        "rows": rows_of(config, best, rounds, max(rates), llama),
        "peak_bytes": {name: min(each["peak_bytes"] for each in rounds[name]) for name in names},
        "weight_bytes": {name: rounds[name][0]["weight_bytes"] for name in names if name != PEER},
        "same_tokens_in_float32": same_in_float32,
        "largest_gap_ulp": rounds[OURS][0]["largest_gap_ulp"],
        "first_divergence": rounds[OURS][0]["first_divergence"],
    }


def equality(folder: Path, arguments: argparse.Namespace) -> bool:
    """Whether both write the same tokens in float32, with two blocks in each tower."""
    config = config_of(arguments.size, CHECKED_LAYERS)
    save_model(folder, random_model(config), config, dtype=torch.float32, files_from=None)
    peer, ours = (run_side(name, folder, arguments, "float32")["tokens"] for name in (PEER, OURS))
    shutil.rmtree(folder)
    return bool(peer == ours)


def rows_of(
    config: ModelConfig,
    best: dict[str, dict[str, float]],
    rounds: dict[str, list[dict[str, Any]]],
    matrix: float,
    llama: list[float],
) -> list[dict[str, Any]]:
    """All rows, each with the side that it is held against."""

    def share(name: str, row: str) -> float | None:
        """Of the limit: of reading, or of arithmetic."""
        if row.startswith("decode"):
            return max(each["shares"][row] for each in rounds[name])
        if not row.startswith("first_token") or name != OURS:
            return None  # start-up has no limit, and that of bfloat16 is not that of fewer bits
        least = floors(config, int(row[-1]), Limits(flops_per_second=matrix, bytes_per_second=1.0), 0.0)
        return least["first_token"] / best[name][row]

    def row(name: str, side: str, taken: str, peer: str, seconds: float) -> dict[str, Any]:
        ours, reached = best[side][taken], share(side, taken)
        return {
            "row": name,
            "ours": ours,
            "peer": seconds,
            "ratio": seconds / ours,
            "floor": None if reached is None else reached * ours,
            "against": peer,
        }

    rows = [row(name, OURS, name, PEER, best[PEER][name]) for name in best[OURS]]
    rows += [row(f"decode_b1_{kind}", kind, "decode_b1", PEER, best[PEER]["decode_b1"]) for kind in FEW_BITS]
    first, load = "first_token_b1", "load_to_first_answer"
    rows += [row(f"prefill_{kind}", kind, first, OURS, best[OURS][first]) for kind in FEW_BITS]
    rows += [row(f"{load}_{kind}", kind, load, PEER, best[PEER][load]) for kind in FEW_BITS]
    if llama:
        rows.append(row("decode_b1_int4_llama", "int4", "decode_b1", "llama.cpp q4_0", min(llama)))
    return rows


def run_side(
    name: str, folder: Path, arguments: argparse.Namespace, dtype: str = "bfloat16"
) -> dict[str, Any]:
    """One process of one side."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--dtype", dtype]
    command += ["--tokens", str(arguments.tokens), "--threads", str(arguments.threads)]
    command += ["--started", str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, {row: round(value, 3) for row, value in measured["seconds"].items()}, file=sys.stderr)
    return measured


def run_llama(arguments: argparse.Namespace) -> float:
    """Seconds of a token by llama.cpp with equal threads."""
    script = Path(__file__).with_name("llama_cpp_peer.py")
    command = [arguments.llama, str(script), "--threads", str(arguments.threads), "--rounds", "1"]
    if arguments.gguf:
        command += ["--file", str(arguments.gguf)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds: float = json.loads(done.stdout.splitlines()[-1])["decode_seconds_per_token"]
    print("llama.cpp", round(seconds, 4), file=sys.stderr)
    return seconds


def table(report: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = [
        "| row | ours (s) | against | it (s) | ratio | floor (s) | share of the limit |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        floor = row["floor"]
        limit = ("-", "-") if floor is None else (f"{floor:.3f}", f"{floor / row['ours']:.0%}")
        cells = (f"{row['ours']:.3f}", row["against"], f"{row['peer']:.3f}", f"{row['ratio']:.2f}", *limit)
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    lines += ["", "| side | weights (GB) | peak memory (GB) |", "| --- | --- | --- |"]
    for name, peak in report["peak_bytes"].items():
        weights = report["weight_bytes"].get(name, report["weight_bytes"][OURS])
        lines.append(f"| {name} | {weights / 1e9:.2f} | {peak / 1e9:.2f} |")
    divergence = report["first_divergence"]
    free = (
        "equal"
        if divergence is None
        else "other from token {token} on, by {gap_ulp:.2f} ulp".format(**divergence)
    )
    same = "the same" if report["same_tokens_in_float32"] else "OTHER"
    lines.append(
        f"\nfloat32: {same} tokens; bfloat16: largest gap {report['largest_gap_ulp']:.2f} ulp, "
        f"free answers {free}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
