"""Transfer: fine-tune a model on the user's examples, and say how much better it got."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from paligemma2.checkpoint.adapter import save_adapter
from paligemma2.checkpoint.atomic import write_json
from paligemma2.data.training_data import TrainingData
from paligemma2.errors import InputError
from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.jobs.transfer_evaluation import Evaluation, Evaluator, OnEvaluation
from paligemma2.jobs.transfer_model import Trainee, shared_trainee, shares, trainee_alone
from paligemma2.jobs.transfer_page import RUN, Shown, reported
from paligemma2.jobs.transfer_start import start_score
from paligemma2.jobs.transfer_task import TransferData, open_transfer_data, resize_for_task
from paligemma2.jobs.versions import versions
from paligemma2.model.lora_training import adapter_in
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.best_weights import remove_best, restore_best
from paligemma2.training.checkpointing import remove_states
from paligemma2.training.micro_batches import in_parts
from paligemma2.training.recipe import Recipe
from paligemma2.training.sharding import save_shared_model, whole
from paligemma2.training.team import Team
from paligemma2.training.tracking import Tracker, open_tracker, require_tracker, tracked
from paligemma2.training.trainer import Progress, ProgressCallback, Trainer
from paligemma2.types import Example

RECORD = "transfer.json"
Numbers = TypeVar("Numbers", Progress, Evaluation)


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
        metric: of the task; else "mean box IoU" where every right answer has boxes, else "exact match".
        before: score of the starting model, 0 to 1.
        after: score of the new one.
        examples: held-out examples scored.
        steps: updates after which the weights of the new model were had.
        output: the new model folder.
        samples: the scored examples.
    """

    metric: str
    before: float
    after: float
    examples: int
    steps: int
    output: Path
    samples: tuple[TransferSample, ...]


def run(
    config: TransferConfig,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None] = lambda message: None,
    on_evaluation: OnEvaluation = lambda evaluation: None,
) -> TransferReport:
    """Score, train, save, score again.

    Raises:
        InputError: the output folder exists, or a prompt does not fit.
        ConfigError: settings that do not go together, or with the model or an earlier run in this folder.
        DataError: the examples cannot be used.
        CheckpointError: the model cannot be loaded.
        WorkError: the loss is not a number again and again, or the disk is full.
        Interrupted: a stop request came; the state is saved and the same call goes on from there.
    """
    if config.output.exists():
        raise InputError(f"{config.output} exists", hint="choose another output folder, or remove it")
    if config.tracking is not None:
        require_tracker(config.tracking.tool)
    trainee = shared_trainee(config) if config.sharded else trainee_alone(config)
    team, predictor = trainee.team, trainee.predictor
    found = _opened(config, trainee, on_event)
    data, held_out = found.training, found.held_out
    recipe = replace(config.training, steps=config.num_steps(data.num_examples))
    on_event(
        f"recipe {config.recipe}: {recipe.steps} updates of {recipe.batch_size} from {data.num_examples} "
        f"examples, {len(held_out)} held out"
    )
    team.told(lambda: _write_run(config, recipe, data))
    with _reported(config, team, on_event) as shown, _tracked(config, team, on_event) as tracker:
        on_score = _also(tracker, "validation", on_evaluation)
        evaluator = Evaluator(
            predictor,
            held_out,
            config.evaluation,
            config.run_folder,
            on_score,
            team=team,
            together=trainee.together,
            metric=found.metric,
        )
        shown.metric, shown.examples = evaluator.metric, held_out
        on_numbers = _also(tracker, "train", partial(on_progress, "transfer"))
        trainer = _trainer(trainee, data, config, recipe, evaluator, on_numbers)
        shown.start, shown.before = start_score(evaluator, _start_of(config), on_event)
        tracker.log(0, _numbers("validation", shown.start))
        _train(trainer, trainee, data, config)
        on_event("scoring the result")
        shown.end, shown.after = _best(evaluator, config, trainer.step, on_event)
        tracker.log(shown.end.step, _numbers("validation", shown.end))
        report = _report(config, shown, shown.start, shown.end)
        _save(trainee, config, report)
    team.told(lambda: _clean_up(config.run_folder))
    return report


def _opened(config: TransferConfig, trainee: Trainee, on_event: Callable[[str], None]) -> TransferData:
    processor = trainee.predictor.processor
    found = open_transfer_data(config, processor, batch_size=config.training.batch_size // trainee.team.size)
    resize_for_task(config, trainee.predictor)
    problems = found.training.problems
    for reason, count in (problems.skipped + problems.noted).most_common():
        on_event(f"{count} × {reason}")
    if found.missing:
        on_event(f"{found.missing} pictures are missing, and their examples left out")
    return found


def _write_run(config: TransferConfig, recipe: Recipe, data: TrainingData) -> None:
    """What this run is, in its folder, from the begin on."""
    record = {
        "transfer": asdict(replace(config, training=recipe)),
        "examples": data.num_examples,
        "data": data.fingerprint,
        "left_out": dict(data.problems.skipped),
        "versions": versions(),
    }
    write_json(config.run_folder / RUN, record)


def _start_of(config: TransferConfig) -> dict[str, object]:
    """What decides the score before the first update; a fresh adapter by itself has no effect."""
    parts: dict[str, object] = {
        "model": config.model,
        "quantize": config.quantize,
        "has adapter": config.lora is not None,  # the weights below may then be in 16 bits
        "precision": config.training.precision,
        "final cap": config.has_final_cap,
        "max_new_tokens": config.evaluation.max_new_tokens,
    }
    return parts | ({"task": config.task} if config.task else {})


def _reported(
    config: TransferConfig, team: Team, warn: Callable[[str], None]
) -> AbstractContextManager[Shown]:
    return reported(config.run_folder, warn) if team.is_first else nullcontext(Shown())


def _tracked(
    config: TransferConfig, team: Team, warn: Callable[[str], None]
) -> AbstractContextManager[Tracker]:
    if config.tracking is None or not team.is_first:
        return tracked(None, warn)
    record = json.loads((config.run_folder / RUN).read_text(encoding="utf-8"))
    name, folder = config.output.name, config.run_folder
    return tracked(partial(open_tracker, config.tracking, name=name, folder=folder, record=record), warn)


def _also(tracker: Tracker, part: str, then: Callable[[Numbers], None]) -> Callable[[Numbers], None]:
    """A callback that lets the tracker have the numbers, too."""

    def tell(numbers: Numbers) -> None:
        tracker.log(numbers.step, _numbers(part, numbers))
        then(numbers)

    return tell


def _numbers(part: str, numbers: Progress | Evaluation) -> dict[str, float]:
    values = asdict(numbers)
    return {f"{part}/{name}": values[name] for name in values if name not in ("step", "steps", "seconds")}


def _trainer(
    trainee: Trainee,
    data: TrainingData,
    config: TransferConfig,
    recipe: Recipe,
    evaluator: Evaluator,
    on_progress: Callable[[Progress], None],
) -> Trainer[ModelInputs]:
    """What trains the model in place; made before anything is scored, so that misfits are told at once."""
    model = trainee.predictor.model
    identity = {
        "model": config.model,
        "data": data.fingerprint,
        "lora": json.dumps(asdict(config.lora)) if config.lora is not None else "",
        "quantize": config.quantize or "",
        "final cap": str(config.has_final_cap),
    }
    return Trainer(
        model,
        recipe,
        trainee.objective,
        split=partial(in_parts, recipe=recipe, config=model.config),
        weigh=trainee.weigh,
        folder=config.run_folder,
        identity=identity,
        on_progress=on_progress,
        on_step=evaluator.after_update,
    )


def _train(
    trainer: Trainer[ModelInputs], trainee: Trainee, data: TrainingData, config: TransferConfig
) -> None:
    def count(skipped: int, cut: int) -> None:
        trainer.update.counters.skipped_examples += skipped
        trainer.update.counters.cut_suffixes += cut

    trainer.fit(partial(shares, data, trainee.team, num_workers=config.num_workers, on_batch=count))


def _best(
    evaluator: Evaluator, config: TransferConfig, steps: int, on_event: Callable[[str], None]
) -> tuple[Evaluation, list[str]]:
    """The evaluation of the weights to keep, which are then in the model, and the answers."""
    best = evaluator.best() if config.evaluation.keep == "best" else None
    is_averaged = config.training.average_decay is not None  # then the weights are others than before
    last, written = evaluator.measure(steps) if is_averaged else evaluator.measured(steps)
    model = evaluator.predictor.model
    if best is None or best.score <= last.score or not restore_best(config.run_folder, model, best.step):
        return last, written
    on_event(
        f"the weights of step {best.step} were better ({best.score:.3f}) than the last ({last.score:.3f})"
    )
    return evaluator.measure(best.step)


def _report(config: TransferConfig, shown: Shown, start: Evaluation, end: Evaluation) -> TransferReport:
    rows = zip(shown.examples, shown.before, shown.after, strict=True)
    return TransferReport(
        metric=shown.metric,
        before=start.score,
        after=end.score,
        examples=len(shown.examples),
        steps=end.step,
        output=config.output,
        samples=tuple(TransferSample(example=each, before=old, after=new) for each, old, new in rows),
    )


def _save(trainee: Trainee, config: TransferConfig, report: TransferReport) -> None:
    predictor, team = trainee.predictor, trainee.team
    record = {
        "transfer": asdict(config),
        "versions": versions(),
        "scores": {
            "metric": report.metric,
            "before": report.before,
            "after": report.after,
            "examples": report.examples,
            "steps": report.steps,
        },
    }
    if config.lora is not None:
        adapter = adapter_in(predictor.model, base_model=config.model, gather=whole)
        team.told(lambda: save_adapter(config.output, adapter, predictor.config, records={RECORD: record}))
        return
    save_shared_model(
        config.output,
        predictor.model,
        predictor.config,
        files_from=predictor.folder,
        records={RECORD: record},
    )


def _clean_up(run_folder: Path) -> None:
    remove_states(run_folder)
    remove_best(run_folder)
