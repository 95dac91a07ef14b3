"""Whether an answer depends on what else is in its batch: in float32 it must not; in bfloat16 it is counted.

    python benchmarks/batch_independence.py --json benchmarks/results/batch_independence.json

The small model answers questions about held-out pictures alone and in batches; a model of the 3B widths with
random weights and few blocks goes on from random prompts. Kernels for other numbers of rows add up in another
order, which in bfloat16 can change a choice between tokens that are almost as likely.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from vs_transformers import config_of

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.data.synthetic.world import scene_sample
from paligemma2.inference.decoding import decode
from paligemma2.inference.devices import form_for
from paligemma2.inference.engine import Token
from paligemma2.inference.loading import load
from paligemma2.inference.reading import select_rows
from paligemma2.jobs.bench import machine_name, random_model, random_prompts
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.weight_forms import refill
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

CPU = torch.device("cpu")
PROMPTS, TOKENS = 16, 12
Answers = list[list[Token]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="blocks of the random model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for name, model, inputs in (small(dtype), wide(arguments.layers, dtype)):
            alone = answers(model, inputs, 1)
            rows += [
                compared(name, dtype, batch, alone, answers(model, inputs, batch)) for batch in (2, 4, 8)
            ]
    print("| model | dtype | batch | same tokens | same answers | largest difference of log-probabilities |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['model']} | {row['dtype']} | {row['batch']} | {row['same_tokens']:.3f} | "
            f"{row['same_answers']:.3f} | {row['largest_difference']:.2g} |"
        )
    if arguments.json:
        report = {"machine": machine_name(CPU), "torch": torch.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if any(row["same_answers"] < 1 for row in rows if row["dtype"] == "float32"):
        sys.exit("float32 answers depend on their batch")


def small(dtype: torch.dtype) -> tuple[str, PaliGemma2Model, ModelInputs]:
    """The shipped model, asked about held-out pictures."""
    name = str(dtype).removeprefix("torch.")
    predictor = load(TINY_FOLDER, device="cpu", dtype=name)  # type: ignore[arg-type]
    size = predictor.config.vision.image_size
    samples = [scene_sample("test", index, size=size) for index in range(PROMPTS)]
    prompts = [sample.rows[index % len(sample.rows)].prefix for index, sample in enumerate(samples)]
    return "tiny", predictor.model, predictor.encode([sample.images for sample in samples], prompts)


def wide(layers: int, dtype: torch.dtype) -> tuple[str, PaliGemma2Model, ModelInputs]:
    """A random model of the 3B widths."""
    config = config_of("3b", layers)
    model = random_model(config).to(dtype)
    refill(model, form_for(CPU, dtype), table=EMBEDDING)
    return f"3B widths, {layers} blocks, random", model, random_prompts(config, PROMPTS)


def answers(model: PaliGemma2Model, inputs: ModelInputs, batch: int) -> Answers:
    """Of all prompts, so many at a time."""
    made: Answers = []
    for start in range(0, PROMPTS, batch):
        some = select_rows(model, inputs, range(start, start + batch))
        steps = zip(*decode(model, some, Decoding(max_new_tokens=TOKENS)), strict=True)
        made += [[token for token in column if token is not None] for column in steps]
    return made


def compared(name: str, dtype: torch.dtype, batch: int, alone: Answers, together: Answers) -> dict:
    """A row. Log-probabilities are compared up to the first token that differs."""
    same, count, largest = 0, 0, 0.0
    for one, other in zip(alone, together, strict=True):
        is_same = True
        for first, second in zip(one, other, strict=False):
            if is_same:
                largest = max(largest, abs(first.log_prob - second.log_prob))
            is_same &= first.id == second.id
            same += first.id == second.id
        count += max(len(one), len(other))
    equal = [[t.id for t in a] == [t.id for t in b] for a, b in zip(alone, together, strict=True)]
    return {
        "model": name,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": batch,
        "same_tokens": same / count,
        "same_answers": sum(equal) / len(equal),
        "largest_difference": largest,
    }


if __name__ == "__main__":
    main()
