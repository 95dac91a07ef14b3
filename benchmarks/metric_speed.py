"""How long scoring takes, on made-up answers: one thread, seconds of the processor.

    python benchmarks/metric_speed.py
    python benchmarks/metric_speed.py --json benchmarks/results/metric_speed.json

VQAv2: every question has ten answers of people who mostly agree, out of answers of one to three words that
are as unequally frequent as words are (Zipf); in one of ten questions an answer with signs and capitals
occurs that is in no other. Three in ten predictions are some other answer.
RefCOCO: masks of pictures of 640 × 480 pixels, decoded from a function instead of the mask codec. Captions
are measured by `caption_speed.py`.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paligemma2.metrics.anls import ANLS
from paligemma2.metrics.answer_text import m4c_text, vqa_text
from paligemma2.metrics.scores import MODES, Metric, Mode, Reference
from paligemma2.metrics.segmentation import mask_meta, segmentation_iou
from paligemma2.metrics.vqa import TEXTVQA_ACCURACY, VQAV2_ACCURACY

SYLLABLES = ["ba", "do", "ke", "li", "mu", "na", "pi", "ro", "su", "te", "va", "wo", "xe", "yi", "zu"]
NUM_COMMON = 3000
HEIGHT, WIDTH = 480, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--masks", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    rows = [*answer_rows(arguments.answers), *mask_rows(arguments.masks)]
    print("| metric | rules | examples | seconds | examples per second |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        rate = row["examples"] / row["seconds"]
        print(f"| {row['metric']} | {row['mode']} | {row['examples']} | {row['seconds']:.2f} | {rate:.0f} |")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"cpus": os.cpu_count(), "rows": rows}, indent=2) + "\n", "utf-8"
        )


def answer_rows(count: int) -> list[dict[str, object]]:
    predictions, references = answers(count)
    metrics = {"VQAv2 accuracy": VQAV2_ACCURACY, "TextVQA accuracy": TEXTVQA_ACCURACY, "ANLS": ANLS}
    return [
        measured(title, metric, mode, predictions, references)
        for title, metric in metrics.items()
        for mode in MODES
    ]


def mask_rows(count: int) -> list[dict[str, object]]:
    predictions, references = masks(count)
    return [measured("RefCOCO IoU", segmentation_iou(ellipses), "paligemma", predictions, references)]


def measured(
    title: str, metric: Metric, mode: Mode, predictions: Sequence[str], references: Sequence[Reference]
) -> dict[str, object]:
    for remembered in (vqa_text, m4c_text):
        remembered.cache_clear()
    start = time.process_time()
    scores = metric(predictions, references, mode)
    seconds = time.process_time() - start
    return {
        "metric": title,
        "mode": mode,
        "examples": len(predictions),
        "seconds": seconds,
        "value": scores.value,
    }


def answers(count: int) -> tuple[list[str], list[Reference]]:
    rng = random.Random(0)
    common = ["yes", "no", "2", *(words(rng, rng.randint(1, 3)) for _ in range(NUM_COMMON))]
    weights = [1 / rank for rank in range(1, len(common) + 1)]
    right = rng.choices(common, weights, k=count)
    predictions, references = [], []
    for number, answer in enumerate(right):
        other = rng.choices(common, weights, k=rng.randint(0, 4))
        if rng.random() < 0.1:
            other.append(f"The {words(rng, 2).title()}-{words(rng, 1)}, no. {number}.")
        given = [answer] * (10 - len(other)) + other
        rng.shuffle(given)
        references.append(Reference(answers=tuple(given)))
        predictions.append(rng.choice(given) if rng.random() < 0.7 else rng.choices(common, weights)[0])
    return predictions, references


def words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(count))


def masks(count: int) -> tuple[list[str], list[Reference]]:
    """Ellipses in boxes of all sizes, and answers whose boxes are a little beside them."""
    rng = np.random.Generator(np.random.PCG64(0))
    predictions, references = [], []
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for _ in range(count):
        centre, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.35, 2)
        inside = ((y / HEIGHT - centre[0]) / radius[0]) ** 2 + ((x / WIDTH - centre[1]) / radius[1]) ** 2 < 1
        references.append(Reference(meta=mask_meta(inside)))
        corners = np.concatenate([centre - radius, centre + radius]) + rng.normal(0, 0.01, 4)
        locations = (corners.clip(0, 1) * 1023).round().astype(int)
        codes = rng.integers(0, 128, 16)
        predictions.append(
            "".join(f"<loc{place:04d}>" for place in locations)
            + "".join(f"<seg{code:03d}>" for code in codes)
        )
    return predictions, references


def ellipses(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    i, j = (np.mgrid[:64, :64].astype(np.float32) - 31.5) / 32
    return np.broadcast_to(1 - i**2 - j**2, (len(codes), 64, 64))


if __name__ == "__main__":
    main()
