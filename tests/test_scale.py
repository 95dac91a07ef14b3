"""The numbers of `docs/scale.md` are those of the package."""

from pathlib import Path

import pytest
import torch

from paligemma2.model.config import preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.plan import StepSize, Way, training_memory
from paligemma2.training.throughput import Hardware, throughput

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
TOKENS, TARGETS, UTILISATION = 1088, 32, 0.45
WITHIN, BETWEEN = Hardware(flops=989e12, link_bytes=450e9), Hardware(flops=989e12, link_bytes=50e9)
MEMORY = [
    (8, 8, "none"),
    (8, 8, "selective"),
    (8, 8, "full"),
    (64, 4, "none"),
    (64, 4, "full"),
    (64, 16, "full"),
]
SPEED = [(8, 8, 1), (8, 8, 4), (64, 4, 1), (64, 16, 1)]
PARTS = ("weights", "gradients", "optimizer", "gathered", "activations", "total")


@pytest.fixture(scope="module")
def model() -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(preset("paligemma2-28b-pt-448"))


def step_of(rows: int) -> StepSize:
    return StepSize(rows=rows, tokens=TOKENS, images=rows, targets=TARGETS * rows)


def table_named(name: str) -> str:
    _, table, _ = PAGE.read_text(encoding="utf-8").split(f"<!-- {name} -->")
    return table.strip()


def memory_table(model: PaliGemma2Model) -> str:
    lines = [
        "| GPUs | rows at a time | recomputation "
        "| weights | gradients | optimiser | gathered | activations | all |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for processes, rows, recomputation in MEMORY:
        way = Way(device="cuda", processes=processes, recomputation=recomputation)  # type: ignore[arg-type]
        plan = training_memory(model, step_of(rows), way)
        numbers = " | ".join(f"{getattr(plan, part) / 1e9:.1f}" for part in PARTS)
        lines.append(f"| {processes} | {rows} | {recomputation} | {numbers} |")
    return "\n".join(lines)


def speed_table(model: PaliGemma2Model) -> str:
    lines = [
        "| GPUs | batch | compute, s | messages, s | step, s | examples/s | tokens/s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for processes, rows, parts in SPEED:
        speed = throughput(
            model,
            step_of(rows),
            processes,
            WITHIN if processes == 8 else BETWEEN,
            utilisation=UTILISATION,
            parts=parts,
        )
        numbers = (
            f"{speed.compute_seconds:.2f} | {speed.communication_seconds:.2f} | {speed.step_seconds:.2f}"
        )
        rates = f"{speed.examples_per_second:.0f} | {speed.tokens_per_second:.0f}"
        lines.append(f"| {processes} | {processes * rows * parts} | {numbers} | {rates} |")
    return "\n".join(lines)


def test_the_memory_of_the_page_is_that_of_the_plan(model: PaliGemma2Model) -> None:
    assert table_named("memory") == memory_table(model)


def test_the_speed_of_the_page_is_that_of_the_arithmetic(model: PaliGemma2Model) -> None:
    assert table_named("speed") == speed_table(model)
