"""Transfer: fine-tune a model on the user's examples, and say how much better it got."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

from paligemma2.checkpoint.save import save_model
from paligemma2.data.sources import DataSource
from paligemma2.data.training_data import DataRules, TrainingData, open_training_data
from paligemma2.errors import DataError, InputError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.versions import versions
from paligemma2.metrics.answers import exact_match
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.processing.parsing import parse_answer
from paligemma2.training.checkpointing import remove_states
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import ProgressCallback, Trainer
from paligemma2.types import Example

_EVALUATION_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What `run` needs.

    Attributes:
        model: "tiny", a folder, an npz file or a hub id.
        data: folder or file in any format of `data.registry`, or sources of a weighted mixture.
        output: the new model folder; the log, and states until the end, stand beside it in `<output>.run`.
        steps: updates.
        batch_size: examples per update.
        learning_rate: peak; the default suits the small model, the real ones want 1e-5 and less.
        seed: of the order of the examples.
        num_workers: processes that read pictures ahead.
        evaluate_examples: held-out examples to score before and after.
        max_new_tokens: longest answer when scoring.
        data_rules: what becomes of several answers, of long texts and of examples that cannot be used.
    """

    model: str
    data: Path | tuple[DataSource, ...]
    output: Path
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 6e-4
    seed: int = 0
    num_workers: int = 1
    evaluate_examples: int = 200
    max_new_tokens: int = 64
    data_rules: DataRules = field(default_factory=DataRules)

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The data set, or those of the mixture."""
        return (DataSource(path=self.data),) if isinstance(self.data, Path) else self.data


@dataclass(frozen=True, kw_only=True)
class TransferSample:
    """One held-out example: what was asked, what is right, and the answers before and after."""

    example: Example
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """The held-out score before and after.

    Attributes:
        metric: "mean box IoU" where every right answer has boxes, else "exact match".
        before: score of the starting model, 0 to 1.
        after: score of the new one.
        examples: held-out examples scored.
        output: the new model folder.
        samples: the scored examples.
    """

    metric: str
    before: float
    after: float
    examples: int
    output: Path
    samples: tuple[TransferSample, ...]


def run(
    config: TransferConfig,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None] = lambda message: None,
) -> TransferReport:
    """Score, train, save, score again.

    Raises:
        InputError: the output folder exists, or a prompt does not fit.
        DataError: the examples cannot be used.
        CheckpointError: the model cannot be loaded.
        WorkError: the loss is not a number, or the disk is full.
        Interrupted: a stop request came; the state is saved and the same call goes on from there.
    """
    if config.output.exists():
        raise InputError(f"{config.output} exists", hint="choose another output folder, or remove it")
    predictor = load(config.model, dtype="float32", for_training=True)
    data = open_training_data(
        config.sources,
        predictor.processor,
        batch_size=config.batch_size,
        seed=config.seed,
        rules=config.data_rules,
    )
    held_out = data.held_out[: config.evaluate_examples]
    if not held_out:
        raise DataError(
            f"{config.sources[0].path} has no held-out examples",
            hint="add some of the split valid or test",
        )
    for reason, count in (data.problems.skipped + data.problems.noted).most_common():
        on_event(f"{count} × {reason}")
    on_event(f"{data.num_examples} examples to train on, {len(held_out)} held out; scoring the start")
    before = _answers(predictor, held_out, config.max_new_tokens)
    _train(predictor, data, config, on_progress)
    on_event("scoring the result")
    after = _answers(predictor, held_out, config.max_new_tokens)
    metric, score = _metric(held_out)
    report = TransferReport(
        metric=metric,
        before=score(before),
        after=score(after),
        examples=len(held_out),
        output=config.output,
        samples=tuple(
            TransferSample(example=example, before=old, after=new)
            for example, old, new in zip(held_out, before, after, strict=True)
        ),
    )
    save_model(
        config.output,
        predictor.model,
        predictor.config,
        files_from=predictor.folder,
        records={"transfer.json": _record(config, report)},
    )
    remove_states(_run_folder(config))
    return report


def _run_folder(config: TransferConfig) -> Path:
    return config.output.with_name(config.output.name + ".run")


def _train(
    predictor: PaliGemma2,
    data: TrainingData,
    config: TransferConfig,
    on_progress: ProgressCallback,
) -> None:
    recipe = Recipe(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        checkpoint_every=max(50, config.steps // 4),
    )
    Trainer(
        predictor.model,
        recipe,
        SuffixObjective(predictor.model),
        folder=_run_folder(config),
        identity={"model": config.model, "data": data.fingerprint, "seed": str(config.seed)},
        on_progress=partial(on_progress, "transfer"),
    ).fit(partial(data.batches, num_workers=config.num_workers))


def _answers(predictor: PaliGemma2, examples: Sequence[Example], max_new_tokens: int) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(examples), _EVALUATION_BATCH):
        batch = examples[start : start + _EVALUATION_BATCH]
        answers = predictor.generate(
            [example.images for example in batch], [example.prefix for example in batch], max_new_tokens
        )
        texts += [answer.text for answer in answers]
    return texts


def _metric(examples: Sequence[Example]) -> tuple[str, Callable[[Sequence[str]], float]]:
    references = [example.suffix or "" for example in examples]
    expected = [parse_answer(reference).detections for reference in references]
    if not all(expected):
        return "exact match", lambda answers: exact_match(answers, references).value
    return "mean box IoU", lambda answers: fmean(
        mean_box_iou(parse_answer(text).detections, boxes)
        for text, boxes in zip(answers, expected, strict=True)
    )


def _record(config: TransferConfig, report: TransferReport) -> dict[str, object]:
    return {
        "transfer": asdict(config),
        "versions": versions(),
        "scores": {
            "metric": report.metric,
            "before": report.before,
            "after": report.after,
            "examples": report.examples,
        },
    }
