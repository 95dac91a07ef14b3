"""What keeping to a grammar adds to one decode step.

    python benchmarks/constraints.py
    python benchmarks/constraints.py --tokenizer FOLDER

Each step is timed in two parts, one right after the other: the step of the model with its choice and
log-probabilities, and what a grammar adds (finding the allowed tokens, restricting the logits, moving on).
Both are seconds of one thread of the CPU, whatever else the machine does; medians over all steps. The small
model of the package is measured; with the folder of a Gemma tokenizer also a random model as wide as the 3B
one, with its vocabulary and two layers.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.load import load_model
from paligemma2.inference.constraints import (
    Constraint,
    Progress,
    answer_list,
    detect_grammar,
    segment_grammar,
)
from paligemma2.inference.sampling import most_likely
from paligemma2.model.config import ModelConfig, VisionConfig, preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.tokenizer import Tokenizer

LABELS = [
    f"{size} {colour} {thing}"
    for size in ("small", "large")
    for colour in ("red", "blue")
    for thing in ("cat", "circle")
]
GRAMMARS: dict[str, Callable[[Tokenizer], Constraint]] = {
    "detect": lambda tokenizer: detect_grammar(tokenizer, LABELS),
    "segment": lambda tokenizer: segment_grammar(tokenizer, LABELS),
    "3000 answers": lambda tokenizer: answer_list(
        tokenizer, [f"{i} {label}" for i in range(375) for label in LABELS]
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, help="folder of a Gemma tokenizer")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | batch | grammar | step (ms) | grammar (ms) | share |")
    print("| --- | --- | --- | --- | --- | --- |")
    small = load_model(TINY_FOLDER, device=torch.device("cpu"), dtype=torch.float32)
    measure("tiny", small.model, Tokenizer.from_folder(TINY_FOLDER, small.config), arguments.steps)
    if arguments.tokenizer is not None:
        model = wide_model()
        measure(
            "3B, 2 layers",
            model,
            Tokenizer.from_folder(arguments.tokenizer, model.config),
            arguments.steps // 10,
        )


def wide_model() -> PaliGemma2Model:
    """Random; its image encoder is small because it has no part in a step."""
    text = dataclasses.replace(preset("paligemma2-3b-pt-224").text, num_layers=2, sliding_layers=())
    vision = VisionConfig(image_size=28, hidden_size=16, num_layers=1, num_heads=1, intermediate_size=16)
    model = PaliGemma2Model(ModelConfig(vision=vision, text=text)).eval()
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    return model


def measure(name: str, model: PaliGemma2Model, tokenizer: Tokenizer, num_steps: int) -> None:
    for batch in (1, 8):
        for kind, build in GRAMMARS.items():
            step, grammar = seconds(model, [build(tokenizer)] * batch, num_steps)
            figures = f"{1e3 * step:.2f} | {1e3 * grammar:.3f} | {grammar / step:.1%}"
            print(f"| {name} | {batch} | {kind} | {figures} |", flush=True)


@torch.inference_mode()
def seconds(model: PaliGemma2Model, grammars: list[Constraint], num_steps: int) -> tuple[float, float]:
    """Medians of a step of the model and of what the grammars add to it."""
    config, batch, prompt = model.config, len(grammars), 80
    ids = torch.randint(3, 100, (batch, prompt))
    is_valid = torch.ones(batch, prompt, dtype=torch.bool)
    steps, added = [], []
    while len(steps) < num_steps:
        limit = 60
        logits, cache = model.prefill(ids, None, PrefixLayout.from_flags(is_valid, is_valid), limit)
        progress = Progress(grammars, limit, config.eos_token_id)
        for _ in range(limit - 1):
            offered = logits[:, : config.num_text_rows]
            start = time.thread_time()
            restricted = progress.restrict(offered)
            middle = time.thread_time()
            chosen = most_likely(restricted)
            log_probs = offered.gather(1, chosen[:, None])[:, 0] - offered.logsumexp(dim=-1)
            tokens, _ = chosen.tolist(), log_probs.tolist()
            before_advance = time.thread_time()
            progress.advance(tokens)
            after_advance = time.thread_time()
            if config.eos_token_id in tokens:
                break
            logits = model.step(chosen, cache)
            end = time.thread_time()
            added.append(middle - start + after_advance - before_advance)
            steps.append(end - start - added[-1])
    return statistics.median(steps), statistics.median(added)


if __name__ == "__main__":
    main()
