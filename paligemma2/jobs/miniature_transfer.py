"""A short transfer of a small model to the training splits of a task, as a step of the miniature run."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.save import save_model
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.training_data import TrainingData
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.protocol import config_under
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Task
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.mask_coding import coding_of
from paligemma2.processing.image import Resize
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.initialization import initialize
from paligemma2.training.micro_batches import in_parts
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class MiniatureTransfer:
    """What `run` needs.

    Attributes:
        model: "tiny", or the folder of a small model.
        task: whose training splits are learned, with the caps and the resize of its protocol.
        data: folder of the data set.
        output: the new folder of the model.
        training: the hyper-parameters.
        is_random: begin with random weights instead of the model's own, as a control.
    """

    model: str
    task: Task
    data: Path
    output: Path
    training: Recipe
    is_random: bool = False


def run(config: MiniatureTransfer) -> None:
    """Train and save in float32.

    Raises:
        DataError: the data set is not there, or not what it should be.
        InputError: the output folder exists.
        WorkError: the loss is not a number again and again, or the disk is full.
    """
    predictor, task = _trainee(config), config.task
    coding = coding_of(load_mask_codec()) if isinstance(task.suffix, ObjectTokens) else None
    found = read_examples(task, task.train, DataFolder(config.data), coding=coding)
    data = TrainingData(
        sources=(tuple(each.example for each in found.examples),),
        processor=predictor.processor,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
    )
    trainer = Trainer(
        predictor.model,
        config.training,
        SuffixObjective(
            predictor.model,
            average=config.training.average,
            label_smoothing=config.training.label_smoothing,
        ),
        split=partial(in_parts, recipe=config.training, config=predictor.model.config),
    )
    trainer.fit(partial(_batches, data))
    save_model(config.output, predictor.model, predictor.config, files_from=predictor.folder)


def _trainee(config: MiniatureTransfer) -> PaliGemma2:
    task, folder = config.task, TINY_FOLDER if config.model == "tiny" else config.model
    wanted = config_under("paligemma", task, open_checkpoint(folder).config)
    predictor = load(folder, dtype="float32", for_training=True, config=wanted)
    if config.is_random:
        initialize(predictor.model, predictor.processor.tokenizer.location_ids, seed=config.training.seed)
    predictor.model.prepare_training(dropout=config.training.dropout)
    antialias = task.antialias if task.train_antialias is None else task.train_antialias
    predictor.processor.resize = Resize("bilinear", antialias=antialias)
    return predictor


def _batches(data: TrainingData, start: int, stop: int) -> Iterator[ModelInputs]:
    with closing(data.batches(start, stop, num_workers=0)) as made:
        yield from made
