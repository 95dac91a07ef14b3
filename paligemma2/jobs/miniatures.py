"""The miniature run: every task from drawn data to the report, with the small model.

It shows that the whole path works, and that scores tell a model that looks at pictures from one that does
not. Its numbers say nothing about the released models.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from paligemma2 import tasks
from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.result import TaskResult, write_result
from paligemma2.jobs import evaluate, miniature_transfer, report
from paligemma2.jobs.data_make import DataMakeConfig, make
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.jobs.miniature_lessons import LESSONS, lesson_of

RANDOM_WEIGHTS = "random weights, the same transfer"
SHUFFLED = "shuffled pictures"
_OWN, _RANDOM = "tiny", "random"
_SAMPLES = 3
"""Pictures of each row in the report."""
_MANY_SPLITS = 10
_FEWEST = 2
"""Pictures of each split where there are many, as of each language; CIDEr is zero with a single one."""


@dataclass(frozen=True, kw_only=True)
class MiniaturesConfig:
    """What `run` needs.

    Attributes:
        output: folder of data sets, models, results and the report; a run that was stopped goes on in it.
        tasks: names; empty for all. Zero-shot tasks bring that of their model with them.
        model: that is taught, a small one.
        processes: tasks that are worked on at a time.
        seed: of what is drawn, and of the order of the examples.

    Raises:
        ConfigError: there is no process.
    """

    output: Path
    tasks: tuple[str, ...] = ()
    model: str = "tiny"
    processes: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes is {self.processes}", hint="give 1 or more")


@dataclass(frozen=True, kw_only=True)
class MiniatureScore:
    """What came out of a task.

    Attributes:
        task: its name.
        result: of the model that was taught.
        controls: the same with shuffled pictures, and of random weights that were taught; only of the tasks
            that are learned.
        seconds: from drawing to scoring.
    """

    task: str
    result: TaskResult
    controls: tuple[TaskResult, ...]
    seconds: float

    @property
    def is_above_controls(self) -> bool:
        """Whether the interval of each row lies above those of all controls."""
        return all(
            ours.interval[0] > theirs.interval[1]
            for control in self.controls
            for ours, theirs in zip(self.result.rows, control.rows, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class MiniaturesReport:
    """Scores in the order of the names of tasks, and the page that shows them."""

    scores: tuple[MiniatureScore, ...]
    page: Path
    seconds: float


def run(
    config: MiniaturesConfig, on_score: Callable[[MiniatureScore], None] = lambda score: None
) -> MiniaturesReport:
    """Make, transfer, evaluate and report; `on_score` is called as soon as a task is done.

    Raises:
        InputError: there is no such task.
        MissingExtra: videos and tables need libraries that are not installed.
        WorkError: the disk is full.
    """
    begin, scores = time.monotonic(), list[MiniatureScore]()
    chains = _chains(config.tasks or tasks.names())  # before anything takes time
    if not _random_start(config).is_dir():
        miniature_transfer.save_random_model(config.model, _random_start(config), seed=config.seed)
    for score in _scores(config, chains):
        on_score(score)
        scores.append(score)
    folder = config.output / "report"
    report.run(report.ReportConfig(runs=(config.output / "runs",), output=folder, num_samples=_SAMPLES))
    return MiniaturesReport(
        scores=tuple(sorted(scores, key=lambda each: each.task)),
        page=folder / report.PAGE,
        seconds=time.monotonic() - begin,
    )


def _chains(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Each task that is trained, and behind it those that its model is asked too; the longest first."""
    if not names:
        raise InputError("there are no tasks", hint="name one")
    chains: dict[str, list[str]] = {}
    for name in names:
        owner = tasks.load(name).transfer_from or name
        chain = chains.setdefault(owner, [owner])
        if name != owner:
            chain.append(name)
    by_work = sorted(chains, key=lambda name: lesson_of(name).work, reverse=True)
    return [tuple(chains[name]) for name in by_work]


def _scores(config: MiniaturesConfig, chains: Sequence[tuple[str, ...]]) -> Iterator[MiniatureScore]:
    if config.processes == 1:
        for chain in chains:
            yield from _work(config, chain)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.processes, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(_work, config, chain) for chain in chains]
        try:
            for future in as_completed(futures):
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _work(config: MiniaturesConfig, chain: Sequence[str]) -> list[MiniatureScore]:
    """All of a chain: its first task is taught, all are evaluated."""
    owner, scores = chain[0], list[MiniatureScore]()
    for name in chain:
        begin = time.monotonic()
        _make(config, name, owner)
        result = _evaluated(config, name, _taught(config, owner))
        controls = _controls(config, name) if name in LESSONS else ()
        seconds = time.monotonic() - begin
        scores.append(MiniatureScore(task=name, result=result, controls=controls, seconds=seconds))
    return scores


def _make(config: MiniaturesConfig, name: str, owner: str) -> None:
    folder, task, lesson = config.output / "data" / name, tasks.load(name), lesson_of(name)
    if folder.is_dir():  # of a run that was stopped; folders get their names when they are whole
        return
    wanted = DataMakeConfig(
        tasks=(name,),
        output=folder,
        examples=lesson.examples if len(task.splits) < _MANY_SPLITS else _FEWEST,
        training_examples=lesson.training_examples,
        seed=config.seed,
    )
    make(task, name=name, folder=folder, config=wanted)


def _taught(config: MiniaturesConfig, name: str, *, is_random: bool = False) -> Path:
    """The model that was taught a task; it is taught if it is not there."""
    folder = config.output / "models" / name / (_RANDOM if is_random else _OWN)
    if not folder.is_dir():
        start = str(_random_start(config)) if is_random else config.model
        data = config.output / "data" / name
        miniature_transfer.teach(start, name, data, folder, lesson_of(name), seed=config.seed)
    return folder


def _random_start(config: MiniaturesConfig) -> Path:
    return config.output / "models" / "random"


def _evaluated(config: MiniaturesConfig, name: str, model: Path, **changes: str) -> TaskResult:
    wanted = EvaluateConfig(
        models=(str(model),),
        tasks=(name,),
        data=config.output / "data",
        output=config.output / "runs",
        seed=config.seed,
        device="cpu",
    )
    (result,) = evaluate.run(replace(wanted, **changes))  # type: ignore[arg-type]
    return result


def _controls(config: MiniaturesConfig, name: str) -> tuple[TaskResult, ...]:
    shuffled = _evaluated(config, name, _taught(config, name), control=SHUFFLED)
    model = _taught(config, name, is_random=True)
    # This is an ordinary evaluation of another model; only here is it known to be a control.
    spoiled = replace(_evaluated(config, name, model), control=RANDOM_WEIGHTS)
    write_result(config.output / "runs" / _RANDOM / name, spoiled)
    return shuffled, spoiled
