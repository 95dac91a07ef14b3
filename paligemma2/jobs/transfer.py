"""Transfer: fine-tune a model on the user's examples, and say how much better it got."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from paligemma2.checkpoint.save import save_model
from paligemma2.data.jsonl import ExampleBatches, fingerprint, read_split
from paligemma2.data.loader import load_batches
from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.held_out import answers, metric_of
from paligemma2.jobs.versions import versions
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.checkpointing import remove_states
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import ProgressCallback, Trainer
from paligemma2.types import Example


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What `run` needs.

    Attributes:
        model: "tiny", a folder, an npz file or a hub id.
        data: a folder with JSON lines, see `paligemma2.data.jsonl`.
        output: the new model folder; the log, and states until the end, stand beside it in `<output>.run`.
        steps: updates.
        batch_size: examples per update.
        learning_rate: peak; the default suits the small model, the real ones want 1e-5 and less.
        seed: of the order of the examples.
        num_workers: processes that read pictures ahead.
        evaluate_examples: held-out examples to score before and after.
        max_new_tokens: longest answer when scoring.
    """

    model: str
    data: Path
    output: Path
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 6e-4
    seed: int = 0
    num_workers: int = 1
    evaluate_examples: int = 200
    max_new_tokens: int = 64


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
    train, held_out = read_split(config.data, "train"), read_split(config.data, "held-out")
    held_out = held_out[: config.evaluate_examples]
    predictor = load(config.model, dtype="float32", for_training=True)
    on_event(f"{len(train)} examples to train on, {len(held_out)} held out; scoring the start")
    before = answers(predictor, held_out, config.max_new_tokens)
    _train(predictor, train, config, on_progress)
    on_event("scoring the result")
    after = answers(predictor, held_out, config.max_new_tokens)
    metric, score = metric_of(held_out)
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
    examples: tuple[Example, ...],
    config: TransferConfig,
    on_progress: ProgressCallback,
) -> None:
    recipe = Recipe(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        checkpoint_every=max(50, config.steps // 4),
    )
    make = ExampleBatches(
        examples=examples, processor=predictor.processor, batch_size=config.batch_size, seed=config.seed
    )

    def batches(start: int, stop: int) -> Iterator[ModelInputs]:
        return load_batches(make, start, stop, num_workers=config.num_workers)

    Trainer(
        predictor.model,
        recipe,
        SuffixObjective(predictor.model),
        folder=_run_folder(config),
        identity={"model": config.model, "data": fingerprint(examples), "seed": str(config.seed)},
        on_progress=partial(on_progress, "transfer"),
    ).fit(batches)


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
