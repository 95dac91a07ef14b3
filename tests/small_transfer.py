"""A transfer of a small random model on a few pictures, for tests of the jobs that train."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.jobs.transfer_evaluation import EvaluationSettings
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Progress, ProgressCallback
from tests.small_model import save_picture, save_small_model

RECIPE = Recipe(steps=4, batch_size=3, learning_rate=6e-4)


def write_rows(folder: Path, suffixes: tuple[str, ...] = ("a cat", "a dog")) -> Path:
    """Six examples to train on, three held out; their right answers take turns."""
    for part, count in (("train", 6), ("valid", 3)):
        lines = []
        for i in range(count):
            name = f"{part}{i}.png"
            save_picture(folder / name, seed=i)
            suffix = suffixes[i % len(suffixes)]
            lines.append(json.dumps({"image": name, "prefix": "what is this ?", "suffix": suffix}))
        (folder / f"_annotations.{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def small_transfer(
    folder: Path, suffixes: tuple[str, ...] = ("a cat", "a dog"), **recipe: float
) -> TransferConfig:
    """The configuration, with its model and data made in a folder; `recipe` changes hyper-parameters."""
    return TransferConfig(
        model=str(save_small_model(folder / "small")),
        data=write_rows(folder / "data", suffixes),
        output=folder / "new",
        training=replace(RECIPE, **recipe),  # type: ignore[arg-type]
        evaluation=EvaluationSettings(max_new_tokens=6),
        num_workers=0,
    )


def quiet(name: str, progress: Progress) -> None:
    pass


def stop_at(step: int, run: str = "transfer") -> ProgressCallback:
    """A callback that sends SIGTERM to this process, as soon as the run is at a step."""

    def on_progress(name: str, progress: Progress) -> None:
        if (name, progress.step) == (run, step):
            os.kill(os.getpid(), signal.SIGTERM)

    return on_progress
