"""Models × tasks to numbers beside the card's: predict, keep, score, say how sure the numbers are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from paligemma2 import tasks
from paligemma2.checkpoint.weights import OnProgress
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.open_data import open_data
from paligemma2.evaluation.predict import (
    Asked,
    OnPredict,
    PredictProgress,
    asked,
    predict_examples,
    with_shuffled_pictures,
)
from paligemma2.evaluation.predictions import (
    SUFFIX,
    Header,
    Prediction,
    PredictionsFile,
    read_predictions,
    slug,
    write_predictions,
)
from paligemma2.evaluation.protocol import decoding_of, split_protocol, task_protocol
from paligemma2.evaluation.result import RowResult, TaskResult, write_result
from paligemma2.evaluation.score import ReadingMasks, score_row
from paligemma2.evaluation.submissions import write_submission
from paligemma2.evaluation.task import Row, Task
from paligemma2.jobs.evaluate_config import EvaluateConfig, chosen_rows, task_name
from paligemma2.jobs.evaluate_model import EvaluatedModel, model_facts
from paligemma2.jobs.evaluate_team import join_team, share_of
from paligemma2.jobs.mask_reading import reading_masks
from paligemma2.jobs.versions import versions
from paligemma2.training.team import Team

SUBMISSION = ".submission.json"
_NAMED = 3  # missing pictures that are told; the result has all


@dataclass(frozen=True, kw_only=True)
class EvaluateProgress:
    """How far the predictions of a split are: of which model and task."""

    model: str
    task: str
    split: str
    predicted: PredictProgress


OnEvaluate: TypeAlias = Callable[[EvaluateProgress], None]
OnEvent: TypeAlias = Callable[[str], None]


@dataclass(kw_only=True)
class _Splits:
    """What is known of the splits of a task after predicting: rows, and pictures that are not there."""

    files: dict[str, Path] = field(default_factory=dict)
    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    num_rows: dict[str, int] = field(default_factory=dict)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)


def run(
    config: EvaluateConfig,
    *,
    on_progress: OnEvaluate = lambda progress: None,
    on_event: OnEvent = lambda message: None,
    on_load: OnProgress | None = None,
) -> list[TaskResult]:
    """The results of every model on every task, which are in `config.output` too.

    What was predicted before is not predicted again. Of several processes of `torchrun` each predicts a
    share, and all give the same results.

    Raises:
        InputError: no such model, task, split or device.
        DataError: a data set is not there, or predictions in the folder are of another protocol or model.
        CheckpointError: the files of a model are damaged.
        Interrupted: a stop request came; all predictions so far are kept.
        WorkError: the disk is full, or the memory of the device too small.
    """
    team, device = join_team(config.device)
    loaded = {name: tasks.load(name) for name in config.tasks}  # before any of them takes time
    opened = {
        name: open_data(task, config.data_source(name), _splits(task, config))
        for name, task in loaded.items()
    }
    results = []
    for model_name in config.models:
        model = EvaluatedModel(model_facts(model_name, config), config, device, on_load)
        for name in config.tasks:
            one = _Evaluation(config, team, model, name, *opened[name], on_progress, on_event)
            results.append(one.run())
    return results


def _splits(task: Task, config: EvaluateConfig) -> tuple[str, ...]:
    """What is predicted: the splits of the chosen rows, and those for a server."""
    rows, only_predicted = chosen_rows(task, config.splits)
    return tuple(dict.fromkeys([split for row in rows for split in row.splits] + list(only_predicted)))


class _Evaluation:
    """One model on one task."""

    def __init__(
        self,
        config: EvaluateConfig,
        team: Team,
        model: EvaluatedModel,
        name: str,
        task: Task,
        data: DataFolder,
        on_progress: OnEvaluate,
        on_event: OnEvent,
    ) -> None:
        self.config, self.team, self.model = config, team, model
        self.name, self.task, self.data = task_name(name), task, data
        self.folder = config.folder(model.facts.name, name)
        self.on_progress, self.on_event = on_progress, on_event

    def run(self) -> TaskResult:
        rows, _ = chosen_rows(self.task, self.config.splits)
        known = _Splits()
        for split in _splits(self.task, self.config):
            self._predict(split, known)
        return self.team.told(lambda: self._result(rows, known))

    def _predict(self, split: str, known: _Splits) -> None:
        config = self.config
        found = read_examples(self.task, split, self.data, limit=config.limit, seed=config.seed)
        examples = asked(found.examples)
        if config.control == "shuffled pictures":
            examples = with_shuffled_pictures(examples, seed=config.seed)
        file = PredictionsFile(self.folder / f"{slug(split)}{SUFFIX}", self._header(split))
        done = self.team.told(lambda: set(file.merge()))
        left = [each for each in examples if each.id not in done]
        unreadable = self._predict_left(split, file, left, num_done=len(examples) - len(left))
        self.team.told(lambda: len(file.merge()))
        known.files[split], known.num_rows[split] = file.path, found.num_rows
        known.ids[split] = tuple(each.id for each in examples)
        missing = tuple(dict.fromkeys((*found.missing, *unreadable)))
        if missing:
            known.missing[split] = missing
            names = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
            self.on_event(f"{self.name} {split}: {len(missing)} pictures are not there or damaged: {names}")

    def _predict_left(self, split: str, file: PredictionsFile, left: list[Asked], num_done: int) -> list[str]:
        """Predict what is left, each process its share; the names of pictures that cannot be read."""
        if not left:
            return []
        team, config = self.team, self.config
        predictor = self.model.under_protocol(self.task)
        shares = team.run(
            lambda: [
                f"{each.image} ({each.reason})"
                for each in predict_examples(
                    predictor,
                    left[share_of(len(left), team)],
                    file,
                    decoding_of(self.task),
                    batch_size=config.batch_size,
                    rank=team.rank,
                    processes=team.size,
                    num_done=num_done // team.size,
                    on_progress=self._telling(split),
                )
            ]
        )
        return [name for share in shares for name in share]

    def _telling(self, split: str) -> OnPredict:
        def tell(progress: PredictProgress) -> None:
            self.on_progress(
                EvaluateProgress(model=self.model.facts.name, task=self.name, split=split, predicted=progress)
            )

        return tell

    def _header(self, split: str) -> Header:
        facts = self.model.facts
        return Header(
            protocol=split_protocol(self.name, self.task, self.config.settings, split),
            model=facts.name,
            fingerprint=facts.fingerprint,
        )

    def _result(self, rows: tuple[Row, ...], known: _Splits) -> TaskResult:
        """Score, write scores beside predictions, and write the result."""
        config, facts, begin = self.config, self.model.facts, time.monotonic()
        lines = {
            split: sorted(read_predictions(path).lines, key=lambda line: line.index)
            for split, path in known.files.items()
        }
        scored = self._score(rows, known, lines)
        seconds = sum(line.seconds for each in lines.values() for line in each)
        result = TaskResult(
            task=self.name,
            model=facts.name,
            column=facts.column,
            fingerprint=facts.fingerprint,
            mode=config.mode,
            protocol=task_protocol(self.name, self.task, config.settings, rows),
            rows=scored,
            missing=known.missing,
            limit=config.limit,
            seed=config.seed,
            control=config.control,
            seconds=round(seconds + time.monotonic() - begin, 3),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )
        if rows:
            write_result(self.folder, result)
        for split in known.files:
            if split == self.task.test_split and self.task.submission:
                self._submit(split, known, lines[split])
        return result

    def _submit(self, split: str, known: _Splits, lines: list[Prediction]) -> None:
        """Write the file for the server of a test split, unless it would not take it."""
        if self.config.limit is not None or self.config.control:
            self.on_event(f"{self.name} {split}: no file for the server is made of a sample or a control")
            return
        path = self.folder / f"{slug(split)}{SUBMISSION}"
        if missing := known.missing.get(split):
            raise DataError(
                f"{self.name} {split}: no file for the server, because pictures are missing: {missing[0]}",
                hint="the server wants an answer to every question; the predictions so far are kept",
            )
        write_submission(path, self.task.submission, self.name, lines, known.ids[split])
        self.on_event(f"{self.name} {split}: {path} is for the server")

    def _score(
        self, rows: tuple[Row, ...], known: _Splits, lines: Mapping[str, list[Prediction]]
    ) -> tuple[RowResult, ...]:
        reading_masks = self._reading_masks(rows)
        scored = [
            score_row(
                row,
                lines,
                sum(known.num_rows[split] for split in row.splits),
                mode=self.config.mode,
                reading_masks=reading_masks,
                samples=self.config.bootstrap_samples,
                seed=self.config.seed,
            )
            for row in rows
        ]
        first: dict[str, tuple[float, ...]] = {}  # of several rows with a split, the first one's scores
        for each in scored:
            first = {**each.values, **first}
        self._write_scores(known, lines, first)
        return tuple(each.result for each in scored)

    def _write_scores(
        self,
        known: _Splits,
        lines: Mapping[str, list[Prediction]],
        values: Mapping[str, tuple[float, ...]],
    ) -> None:
        for split, scores in values.items():
            write_predictions(
                known.files[split],
                self._header(split),
                (replace(line, score=value) for line, value in zip(lines[split], scores, strict=True)),
            )

    def _reading_masks(self, rows: tuple[Row, ...]) -> ReadingMasks | None:
        if not any(row.metric.reads_masks for row in rows):
            return None
        return reading_masks(self.config.mask_codec or "default")
