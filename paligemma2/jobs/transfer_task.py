"""The data of a transfer: a data set of the user's, or that of a benchmark with its own metric."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paligemma2 import tasks
from paligemma2.checkpoint.mask_codec_files import DEFAULT, load_mask_codec
from paligemma2.data.example_store import ExampleStore
from paligemma2.data.training_data import DataRules, TrainingData, open_training_data
from paligemma2.errors import DataError
from paligemma2.evaluation.examples import EvaluationExample, read_examples
from paligemma2.evaluation.open_data import open_data
from paligemma2.evaluation.predict import image_name
from paligemma2.evaluation.protocol import config_under
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Task
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.evaluate_config import task_name
from paligemma2.jobs.held_out import Score, metric_of
from paligemma2.jobs.mask_reading import coding_of
from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.metrics.scores import Metric, Reference
from paligemma2.model.config import ModelConfig
from paligemma2.processing.image import Resize
from paligemma2.processing.processor import Processor
from paligemma2.types import Example


@dataclass(frozen=True, kw_only=True)
class TransferData:
    """What is trained and validated on.

    Attributes:
        training: with the held-out examples.
        metric: of the held-out examples, by its name and as a function of the answers to the first of them.
        missing: how many pictures are not there, whose examples are left out.
    """

    training: TrainingData
    metric: tuple[str, Score]
    missing: int = 0

    @property
    def held_out(self) -> Sequence[Example]:
        """The examples that are scored."""
        return self.training.held_out


def open_transfer_data(config: TransferConfig, processor: Processor, *, batch_size: int) -> TransferData:
    """Read what a transfer trains on and what it is validated on.

    Args:
        config: of the transfer.
        processor: of the model.
        batch_size: examples per batch of one process.

    Raises:
        DataError: the data cannot be used, or has no held-out examples.
        InputError: there is no such task.
    """
    if config.task:
        return _of_task(config, processor, batch_size)
    training = open_training_data(
        config.sources, processor, batch_size=batch_size, seed=config.training.seed, rules=config.rules
    )
    if not training.held_out:
        raise DataError(
            f"{config.sources[0].path} has no held-out examples", hint="add some of the split valid or test"
        )
    scored = training.held_out[: config.evaluation.examples]
    return TransferData(training=replace(training, held_out=scored), metric=metric_of(scored))


def transfer_model_config(config: TransferConfig, own: ModelConfig) -> ModelConfig:
    """The configuration of the model while it is trained: attention cap and window as the task says.

    Whether the output layer keeps its soft-cap, `config.has_final_cap` says.
    """
    if not config.task:
        return own
    wanted = config_under("paligemma", tasks.load(config.task), own)
    return replace(wanted, text=replace(wanted.text, final_cap=own.text.final_cap))


def resize_for_task(config: TransferConfig, predictor: PaliGemma2) -> None:
    """Let pictures that are validated on be resized as in the evaluation of the task."""
    if config.task:
        predictor.processor.resize = Resize("bilinear", antialias=tasks.load(config.task).antialias)


def validation_splits(task: Task, *, tune: bool) -> tuple[str, str]:
    """What is trained on and what is validated on: as for the card's number, or as for choosing settings.

    Raises:
        DataError: the task names no splits for choosing settings.
    """
    if not tune:
        return task.train, task.rows[0].splits[0]
    if task.tune is None:
        raise DataError(f"{task.title} has no splits for choosing settings", hint="leave tune out")
    return task.tune


def _of_task(config: TransferConfig, processor: Processor, batch_size: int) -> TransferData:
    task = tasks.load(config.task)
    (source,) = config.sources
    train_split, split = validation_splits(task, tune=config.tune)
    task, folder = open_data(task, str(source.path), (train_split, split))
    coding = None
    if isinstance(task.suffix, ObjectTokens):
        coding = coding_of(load_mask_codec(config.mask_codec or DEFAULT).codec)
    train, held_out = (read_examples(task, name, folder, coding=coding) for name in (train_split, split))
    antialias = task.antialias if task.train_antialias is None else task.train_antialias
    scored = held_out.examples[: config.evaluation.examples]
    training = TrainingData(
        sources=(_stored([each.example for each in train.examples]),),
        processor=Processor(processor.tokenizer, processor.config, Resize("bilinear", antialias=antialias)),
        batch_size=batch_size,
        seed=config.training.seed,
        rules=config.rules,
        held_out=tuple(each.example for each in scored),
        fingerprint=_fingerprint(config, train_split, train.examples, config.rules, antialias),
    )
    return TransferData(
        training=training,
        metric=_metric(task, scored),
        missing=len(train.missing) + len(held_out.missing),
    )


def _metric(task: Task, scored: Sequence[EvaluationExample]) -> tuple[str, Score]:
    metric = task.rows[0].metric
    if metric.reads_masks:  # the boxes tell whether it learns, and need no codec
        return metric_of([each.example for each in scored])
    references = [each.reference for each in scored]
    return metric.name, lambda answers: _value(metric, answers, references)


def _value(metric: Metric, answers: Sequence[str], references: Sequence[Reference]) -> float:
    return metric(answers, references).value


def _stored(examples: Sequence[Example]) -> Sequence[Example]:
    """The examples in one block of memory."""
    store = ExampleStore()
    for each in examples:
        store.append(each)
    return store


def _fingerprint(
    config: TransferConfig,
    split: str,
    examples: Sequence[EvaluationExample],
    rules: DataRules,
    antialias: bool,
) -> str:
    """Of everything that decides what is learned; as of other data, names of pictures stand for them."""
    digest = hashlib.sha256()
    decisive = [rules.answers, rules.text_length, rules.long_text, antialias]
    digest.update(json.dumps([task_name(config.task), split, decisive]).encode())
    for each in examples:
        example = each.example
        names = [Path(image_name(image)).name for image in example.images]
        texts = [example.id, names, example.prefix, example.suffix, example.answers]
        variants = [[variant.prefixes, variant.answers] for variant in example.variants]
        digest.update(json.dumps([*texts, *variants]).encode())
    return digest.hexdigest()
