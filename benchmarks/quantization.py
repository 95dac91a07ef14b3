"""What weights of few bits cost in quality: answers and distributions against bfloat16.

    python benchmarks/quantization.py
    python benchmarks/quantization.py --layers 4 --json benchmarks/results/quantization.json

Two models, each with its weights in every form. The small trained model reads held-out scenes, words and
pairs of the procedural world with the true answers, and answers such prompts by itself (its scores). A
random model of the 3B widths, with `--layers` blocks in each tower, reads pictures of noise and random text.
Compared are the distributions of each next token: whether the most likely token is the same, and the mean
Kullback-Leibler divergence from bfloat16 in nats. Random weights have far flatter distributions than trained
ones, and the best of nearly equal tokens changes easily; the row of float32 shows how easily.
"""

import argparse
import dataclasses
import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vs_transformers import config_of

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.world import pair_sample, scene_sample, word_sample
from paligemma2.inference.devices import form_for
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.bench import TEXT_TOKENS, machine_name, random_model, random_prompts
from paligemma2.jobs.versions import versions
from paligemma2.jobs.world_scores import score_world
from paligemma2.model.config import ModelConfig
from paligemma2.model.low_bit import LowBits, quantize, restore
from paligemma2.model.low_bit_kernel import kernel
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.quantized_linear import QuantizedLinear
from paligemma2.model.weight_forms import WeightForm, packed_form, quantized_form, refill, stored_bytes
from paligemma2.processing.processor import ModelInputs

SPLIT = "test"
ROWS_AT_ONCE = 32
SUFFIX_TOKENS = 24
"""Random tokens after a random prompt."""
TASKS = ("caption", "vqa", "detection", "segmentation", "words", "pairs")


class SmallTable(nn.Module):
    """A table of 4 bits, which the package does not offer; see `QuantizedTable`."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self._low = quantize(table.weight.detach(), 4)
        self._product = QuantizedLinear(self._low, None)  # its bytes are counted; `_low` is for look-ups only

    def forward(self, token_ids: Tensor) -> Tensor:
        numbers, scales = self._low.numbers[token_ids.flatten()], self._low.scales[token_ids.flatten()]
        rows = restore(LowBits(bits=4, numbers=numbers, scales=scales), torch.bfloat16)
        return rows.view(*token_ids.shape, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        product: Tensor = self._product(hidden.float())
        return product


FORMS: dict[str, WeightForm] = {
    "bfloat16": packed_form(torch.bfloat16),
    "float32": form_for(torch.device("cpu"), torch.float32),
    "int8": quantized_form("int8", torch.bfloat16),
    "w8a8": quantized_form("w8a8", torch.bfloat16),
    "int4": quantized_form("int4", torch.bfloat16),
    "int4, table too": dataclasses.replace(quantized_form("int4", torch.bfloat16), table=SmallTable),
}
"""The first is what the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class WorldExample:
    images: Sequence[Pixels]
    prefix: str
    suffix: str
    id: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="blocks of each tower of the random model")
    parser.add_argument("--prompts", type=int, default=16, help="of the random model")
    parser.add_argument("--examples", type=int, default=100, help="scenes, words and pairs, each")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = {
        "machine": machine_name(torch.device("cpu")),
        "versions": versions(),
        "has_own_kernel": kernel() is not None,
        "tiny": tiny_rows(arguments.examples),
        "random": random_rows(arguments.layers, arguments.prompts),
        "layers": arguments.layers,
        "examples": arguments.examples,
    }
    print(table(report["tiny"]), table(report["random"]), sep="\n\n")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def tiny_rows(examples: int) -> list[dict[str, Any]]:
    """The small model in each form."""
    rows, reference = [], None
    for name, form in FORMS.items():
        predictor = load("tiny", dtype="bfloat16", for_training=True)
        refill(predictor.model, form, EMBEDDING)
        found = torch.cat([logits_of(predictor.model, each) for each in world_batches(predictor, examples)])
        reference = found if reference is None else reference
        scores = score_world(predictor, SPLIT, examples=examples)
        of_tasks = {task: getattr(scores, task) for task in TASKS}
        rows.append({**row_of(name, predictor.model, reference, found), **of_tasks})
    return rows


def world_batches(predictor: PaliGemma2, examples: int) -> Iterator[ModelInputs]:
    """Prompts of the world with their true answers."""
    kinds = (scene_sample, word_sample, pair_sample)
    size = predictor.config.vision.image_size
    samples = [sample_of(SPLIT, index, size=size) for sample_of in kinds for index in range(examples)]
    pending = [
        WorldExample(images=sample.images, prefix=row.prefix, suffix=row.suffix)
        for sample in samples
        for row in sample.rows
    ]
    for start in range(0, len(pending), ROWS_AT_ONCE):
        yield predictor.processor.encode(pending[start : start + ROWS_AT_ONCE], train=True)


def random_rows(layers: int, prompts: int) -> list[dict[str, Any]]:
    """The random model in each form."""
    rows, reference = [], None
    for name, form in FORMS.items():
        model = random_model(config_of("3b", layers))
        refill(model, form, EMBEDDING)
        batches = random_batches(model.config, prompts)
        found = torch.cat([logits_of(model, each) for each in batches])
        reference = found if reference is None else reference
        rows.append(row_of(name, model, reference, found))
        del model
        gc.collect()
    return rows


def random_batches(config: ModelConfig, prompts: int) -> Iterator[ModelInputs]:
    """Random prompts with random answers, four at a time."""
    inputs = random_prompts(config, prompts)
    generator = torch.Generator().manual_seed(2)
    suffix = torch.randint(3, config.num_text_rows, (prompts, SUFFIX_TOKENS), generator=generator)
    token_ids = torch.cat((inputs.token_ids, suffix), dim=1)
    prefix = config.num_image_tokens + TEXT_TOKENS
    is_prefix = torch.arange(token_ids.shape[1]).expand_as(token_ids) < prefix
    for rows in torch.split(torch.arange(prompts), 4):
        layout = PrefixLayout.from_flags(torch.ones_like(is_prefix[rows]), is_prefix[rows])
        yield ModelInputs(
            token_ids=token_ids[rows],
            pixel_values=inputs.pixel_values[rows],
            image_index=torch.arange(len(rows)),
            layout=layout,
            loss_weights=(~is_prefix[rows]).float(),
            ids=("",) * len(rows),
        )


@torch.inference_mode()
def logits_of(model: PaliGemma2Model, inputs: ModelInputs) -> Tensor:
    """Of all tokens that may be produced, at every place of an answer: float32 [places, vocab]."""
    assert inputs.loss_weights is not None
    image_tokens = model.encode_images(inputs.pixel_values)[inputs.image_index]
    hidden = model.hidden_states(inputs.token_ids, image_tokens, inputs.layout)
    before = hidden[:, :-1][inputs.loss_weights[:, 1:] > 0]
    return model.language_model.logits(before)[:, : model.config.num_text_rows]


def row_of(name: str, model: PaliGemma2Model, reference: Tensor, found: Tensor) -> dict[str, Any]:
    """How far distributions are from those of the reference."""
    agree = reference.argmax(dim=-1) == found.argmax(dim=-1)
    divergence, entropy = [], []
    for p, q in zip(log_probs(reference), log_probs(found), strict=True):
        divergence.append((p.exp() * (p - q)).sum(dim=-1))
        entropy.append(-(p.exp() * p).sum(dim=-1))
    return {
        "form": name,
        "bytes": stored_bytes(model),
        "places": len(found),
        "agree": agree.float().mean().item(),
        "divergence": torch.cat(divergence).mean().item(),
        "entropy": torch.cat(entropy).mean().item(),
    }


def log_probs(logits: Tensor) -> Iterator[Tensor]:
    """Some places at a time, in float64: in float32 a sum over the vocabulary is off by a thousandth."""
    return (some.double().log_softmax(dim=-1) for some in torch.split(logits, 64))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown; scores where they were taken."""
    tasks = [task for task in TASKS if task in rows[0]]
    titles = ["weights", "MB", "same best token", "divergence (nats)", *tasks]
    lines = [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}"]
    for row in rows:
        figures = [f"{row['bytes'] / 1e6:.1f}", f"{row['agree']:.2%}", f"{row['divergence']:.5f}"]
        cells = [row["form"], *figures, *(f"{row[task]:.3f}" for task in tasks)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{rows[0]['places']} places, mean entropy {rows[0]['entropy']:.2f} nats"])


if __name__ == "__main__":
    main()
