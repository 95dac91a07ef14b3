"""A task on data of any size: predicted on a Ray cluster, scored and written down as `evaluate` does."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from paligemma2 import tasks
from paligemma2.errors import InputError
from paligemma2.evaluation.examples import EvaluationExample
from paligemma2.evaluation.predict import asked
from paligemma2.evaluation.predictions import SUFFIX, Header, Prediction, slug, write_predictions
from paligemma2.evaluation.protocol import split_protocol, task_protocol
from paligemma2.evaluation.result import TaskResult, write_result
from paligemma2.evaluation.score import ScoredRow, score_row
from paligemma2.evaluation.task import Row, Task
from paligemma2.jobs import bulk
from paligemma2.jobs.bulk import BulkConfig, BulkReport, BulkSettings
from paligemma2.jobs.bulk_asking import TaskAsker
from paligemma2.jobs.bulk_output import BulkOutput, BulkPrediction
from paligemma2.jobs.bulk_sources import is_folder
from paligemma2.jobs.bulk_worker import Done
from paligemma2.jobs.evaluate_config import EvaluateConfig, chosen_rows, task_name
from paligemma2.jobs.evaluate_model import ModelFacts, model_facts
from paligemma2.jobs.versions import versions
from paligemma2.metrics.scores import Reference
from paligemma2.types import Example


@dataclass(frozen=True, kw_only=True)
class BulkEvaluateConfig:
    """What `run` needs.

    Attributes:
        evaluation: of one model and one task; its `data` is not read, its `output` is a folder of this
            machine for the result and the predictions, as `evaluate` writes them.
        data: a folder with one for each split, called as the file of its predictions is ("val", "testA");
            with one split also the folder of its files. See `BulkConfig.data`.
        output: see `BulkConfig.output`; has a folder for each split.
        settings: how the work is shared out.

    Raises:
        InputError: there are several models or tasks, or the evaluation is none of a whole split.
    """

    evaluation: EvaluateConfig
    data: str
    output: str
    settings: BulkSettings

    def __post_init__(self) -> None:
        asked = self.evaluation
        if len(asked.models) != 1 or len(asked.tasks) != 1:
            raise InputError(
                f"{len(asked.models)} models and {len(asked.tasks)} tasks",
                hint="give one of each, and start the job for each pair",
            )
        if asked.limit is not None or asked.control:
            raise InputError("limits and controls are for data on this machine", hint="use evaluate")


@dataclass(frozen=True, kw_only=True)
class _Split:
    report: BulkReport
    lines: tuple[Prediction, ...]
    problems: tuple[str, ...]


def run(config: BulkEvaluateConfig, on_done: Callable[[Done], None] | None = None) -> TaskResult:
    """The result of the task, which is also in the folder that `evaluate` would write it to.

    Args:
        config: what to evaluate on what.
        on_done: called with each unit when it is finished.

    Raises:
        PaliGemmaError: what `bulk.run` and `tasks.load` raise.
        InputError: the task has no such split, or its pictures are videos or its metric reads masks.
    """
    evaluation, begin = config.evaluation, time.monotonic()
    given = evaluation.tasks[0]
    name, task = task_name(given), tasks.load(given)
    rows, _ = chosen_rows(task, evaluation.splits)
    _check(task, rows)
    facts = model_facts(evaluation.models[0], evaluation)
    names = list(dict.fromkeys(split for row in rows for split in row.splits))
    splits = {}
    for split in names:
        asker = TaskAsker(name=name, task=task, split=split, config=evaluation)
        job = BulkConfig(
            asker=asker,
            data=_data_of(config.data, split, is_only=len(names) == 1),
            output=f"{config.output.rstrip('/')}/{slug(split)}",
            settings=config.settings,
        )
        splits[split] = _read(bulk.run(job, on_done))
    scored = [_score(row, splits, evaluation) for row in rows]
    _write_lines(config, name, task, facts, splits, scored)
    return _write_result(config, name, task, facts, splits, scored, begin)


def _check(task: Task, rows: tuple[Row, ...]) -> None:
    if not rows:
        raise InputError(f"{task.title}: there is nothing to score", hint="give splits with right answers")
    if task.frames is not None:
        raise InputError(f"{task.title} asks about videos", hint="use evaluate")
    if any(row.metric.reads_masks for row in rows):
        raise InputError(f"{task.title} is scored by masks", hint="use evaluate")


def _data_of(data: str, split: str, *, is_only: bool) -> str:
    own = f"{data.rstrip('/')}/{slug(split)}"
    return data if is_only and not is_folder(own) else own


def _read(report: BulkReport) -> _Split:
    output = BulkOutput(report.output)
    found = sorted(output.predictions(), key=_order)
    examples = [Example(images=(), id=each.id) for each in found]
    named = asked([EvaluationExample(example=example, reference=Reference()) for example in examples])
    lines = (_line(each, id.id, id.index) for each, id in zip(found, named, strict=True))
    problems = (f"{each.source} ({each.reason}: {each.detail})" for each in output.problems())
    return _Split(report=report, lines=tuple(lines), problems=tuple(problems))


def _order(found: BulkPrediction) -> tuple[str, int]:
    file, _, number = found.source.rpartition("#")
    return file, int(number)


def _line(found: BulkPrediction, name: str, index: int) -> Prediction:
    return Prediction(
        id=name,
        index=index,
        prompt=found.prompt,
        prediction=found.prediction,
        answers=found.answers,
        meta=json.loads(found.meta),
        unit=found.unit,
        images=(found.source,),
        finish_reason=found.finish_reason,
        log_prob=found.log_prob,
        seconds=found.seconds,
    )


def _score(row: Row, splits: Mapping[str, _Split], evaluation: EvaluateConfig) -> ScoredRow:
    return score_row(
        row,
        {split: splits[split].lines for split in row.splits},
        sum(len(splits[split].lines) + len(splits[split].problems) for split in row.splits),
        mode=evaluation.mode,
        samples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )


def _write_lines(
    config: BulkEvaluateConfig,
    name: str,
    task: Task,
    facts: ModelFacts,
    splits: Mapping[str, _Split],
    scored: list[ScoredRow],
) -> None:
    """The predictions with their scores, of several rows the first one's, in the files of `evaluate`."""
    folder = config.evaluation.folder(facts.name, config.evaluation.tasks[0])
    for split, found in splits.items():
        values = next(row.values[split] for row in scored if split in row.values)
        lines: Iterator[Prediction] = (
            replace(line, score=value) for line, value in zip(found.lines, values, strict=True)
        )
        protocol = split_protocol(name, task, config.evaluation.settings, split)
        header = Header(protocol=protocol, model=facts.name, fingerprint=facts.fingerprint)
        write_predictions(folder / f"{slug(split)}{SUFFIX}", header, lines)


def _write_result(
    config: BulkEvaluateConfig,
    name: str,
    task: Task,
    facts: ModelFacts,
    splits: Mapping[str, _Split],
    scored: list[ScoredRow],
    begin: float,
) -> TaskResult:
    evaluation = config.evaluation
    rows, _ = chosen_rows(task, evaluation.splits)
    result = TaskResult(
        task=name,
        model=facts.name,
        column=facts.column,
        fingerprint=facts.fingerprint,
        mode=evaluation.mode,
        protocol=task_protocol(name, task, evaluation.settings, rows),
        rows=tuple(row.result for row in scored),
        missing={split: found.problems for split, found in splits.items() if found.problems},
        seed=evaluation.seed,
        seconds=round(time.monotonic() - begin, 3),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    write_result(evaluation.folder(facts.name, evaluation.tasks[0]), result)
    return result
