"""The transfers of the miniature run: of the small model, and of random weights as a control."""

from collections.abc import Sequence
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.save import save_model
from paligemma2.inference.loading import load
from paligemma2.jobs import transfer
from paligemma2.jobs.miniature_lessons import Lesson
from paligemma2.jobs.transfer_config import configure
from paligemma2.training.initialization import initialize

_SCORED = 2
"""Examples that a transfer itself scores before and after; the evaluation comes behind it."""


def teach(model: str, task: str, data: Path, output: Path, lesson: Lesson, *, seed: int) -> None:
    """Train a model on a task for a moment and save it; nothing else of the transfer is kept.

    Args:
        model: "tiny" or a folder.
        task: its name.
        data: folder of the data set.
        output: the new folder of the model.
        lesson: how long.
        seed: of the order of the examples.

    Raises:
        DataError: the data set is not there, or not what it should be.
        WorkError: the loss is not a number again and again, or the disk is full.
    """
    config = configure(
        model, data, output, recipe="small", task=task, settings=[*_settings(lesson), f"training.seed={seed}"]
    )
    transfer.run(config, lambda name, progress: None)


def save_random_model(model: str, output: Path, *, seed: int) -> None:
    """A folder with a model of the same shape whose weights are random, in float32."""
    predictor = load(TINY_FOLDER if model == "tiny" else model, dtype="float32", for_training=True)
    initialize(predictor.model, predictor.processor.tokenizer.location_ids, seed=seed)
    save_model(output, predictor.model, predictor.config, files_from=predictor.folder)


def _settings(lesson: Lesson) -> Sequence[str]:
    return (
        f"training.steps={lesson.steps}",
        f"training.batch_size={lesson.batch_size}",
        f"training.learning_rate={lesson.learning_rate}",
        f"evaluation.examples={_SCORED}",
        "has_final_cap=false",  # as the protocol of every task has it
        "num_workers=0",
    )
