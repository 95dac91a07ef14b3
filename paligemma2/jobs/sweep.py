"""Sweep: several transfers one after the other, and one table of their scores."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paligemma2.checkpoint.atomic import new_file, write_json
from paligemma2.errors import ConfigError, InputError, PaliGemmaError, WorkError
from paligemma2.jobs import transfer
from paligemma2.jobs.sweep_config import PlannedRun, SweepConfig, planned_runs
from paligemma2.jobs.sweep_table import (
    RunResult,
    SweepRow,
    as_csv,
    as_markdown,
    as_record,
    best_run,
    cells,
    rows_of,
)
from paligemma2.jobs.transfer_evaluation import OnEvaluation
from paligemma2.jobs.transfer_page import PAGE
from paligemma2.jobs.transfer_start import are_scored_alike, share_start
from paligemma2.jobs.versions import versions
from paligemma2.training.best_weights import remove_best
from paligemma2.training.checkpointing import remove_states
from paligemma2.training.trainer import ProgressCallback

RECORD, MARKDOWN, CSV = "sweep.json", "sweep.md", "sweep.csv"
_UNIMPORTANT = ("data", "output", "num_workers", "image_cache_gb", "tracking", "recipe", "sharded")
"""Settings of a finished run that may differ: where things lie, and what does not change the result."""


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """How all runs ended.

    Attributes:
        metric: "mean box IoU" or "exact match".
        rows: the combinations of settings, best first.
        output: the folder of the sweep.
        best: the best run of the best combination; None if all failed.
    """

    metric: str
    rows: tuple[SweepRow, ...]
    output: Path
    best: RunResult | None

    @property
    def failed(self) -> tuple[RunResult, ...]:
        """The runs that failed."""
        return tuple(run for row in self.rows for run in row.runs if run.error)

    @property
    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows of the table as text."""
        return cells(self.rows, self.metric)


def run(
    config: SweepConfig,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None] = lambda message: None,
    on_evaluation: OnEvaluation = lambda evaluation: None,
) -> SweepReport:
    """Run what is not finished yet; the table is written after every run.

    A run that fails by itself (its loss, its settings, its memory) is recorded, and the others go on.

    Raises:
        InputError: the output folder holds something else, or a prompt does not fit.
        ConfigError: a finished run in the folder had other settings.
        DataError: the examples cannot be used.
        CheckpointError: the model cannot be loaded.
        Interrupted: a stop request came; the state is saved and the same call goes on from there.
    """
    runs = planned_runs(config)
    _prepare(config)
    folders = [planned.config.run_folder for planned in runs]
    results: list[RunResult] = []
    for number, planned in enumerate(runs, start=1):
        result = _finished(planned)
        on_event(f"run {number} of {len(runs)}: {planned.name}{' is finished' if result else ''}")
        if result is None:
            share_start(folders, planned.config.run_folder)
            result = _run(planned, on_progress, on_event, on_evaluation)
        results.append(result)
        if config.keep == "best":
            results = _with_best_weights(config, results)
        report = _report(config, results)
        _write(config, report)
    if not are_scored_alike(folders):
        on_event("the runs were not scored on the same held-out examples: their scores do not compare")
    return report


def _prepare(config: SweepConfig) -> None:
    output = config.base.output
    if output.exists() and not (output / RECORD).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"{output} exists and is not of a sweep", hint="choose another output folder, or remove it"
        )
    if not (output / RECORD).exists():
        write_json(output / RECORD, {"runs": [each.name for each in planned_runs(config)]})


def _finished(planned: PlannedRun) -> RunResult | None:
    """The result of a run that was finished before.

    Raises:
        ConfigError: it had other settings.
    """
    path = planned.config.output / transfer.RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(_changed(record["transfer"], _as_json(planned)))
    if changed:
        raise ConfigError(
            f"{planned.config.output} was run with another {', '.join(changed)}",
            hint="use the same settings to go on, or choose another output folder",
        )
    remove_states(planned.config.run_folder)  # the run may have been killed before it came to this
    remove_best(planned.config.run_folder)
    return RunResult(
        name=planned.name,
        settings=planned.settings,
        seed=planned.seed,
        metric=record["scores"]["metric"],
        before=record["scores"]["before"],
        score=record["scores"]["after"],
        has_weights=any(planned.config.output.glob("*.safetensors")),
    )


def _as_json(planned: PlannedRun) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(asdict(planned.config), default=str))
    return record


def _changed(saved: dict[str, Any], wanted: dict[str, Any]) -> set[str]:
    return {
        name
        for name in saved.keys() | wanted.keys()
        if name not in _UNIMPORTANT and saved.get(name) != wanted.get(name)
    }


def _run(
    planned: PlannedRun,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None],
    on_evaluation: OnEvaluation,
) -> RunResult:
    try:
        transfer.run(
            planned.config,
            lambda name, progress: on_progress(planned.name, progress),
            on_event,
            on_evaluation,
        )
    except Exception as error:
        if isinstance(error, PaliGemmaError) and not isinstance(error, WorkError | ConfigError):
            raise  # it was stopped, or all runs would fail in the same way
        reason = str(error) if isinstance(error, PaliGemmaError) else f"{type(error).__name__}: {error}"
        on_event(f"{planned.name} failed: {reason}")
        return RunResult(name=planned.name, settings=planned.settings, seed=planned.seed, error=reason)
    result = _finished(planned)
    assert result is not None
    return result


def _with_best_weights(config: SweepConfig, results: Sequence[RunResult]) -> list[RunResult]:
    """Remove the weights of all but the best run, and but the best of a combination that has runs to come."""
    rows = rows_of(results)
    whole = [row for row in rows if len(row.runs) == config.seeds]
    candidates = [whole, *([row] for row in rows if row not in whole)]
    kept = {best.name for each in candidates if (best := best_run(each)) is not None}
    left = []
    for result in results:
        if result.has_weights and result.name not in kept:
            _remove_weights(config.base.output / result.name)
            result = replace(result, has_weights=False)
        left.append(result)
    return left


def _remove_weights(folder: Path) -> None:
    """Leave nothing but the record, by which the run is known as finished."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != transfer.RECORD:
            path.unlink()


def _report(config: SweepConfig, results: Sequence[RunResult]) -> SweepReport:
    rows = rows_of(results)
    metric = next((result.metric for result in results if result.metric), "score")
    return SweepReport(metric=metric, rows=rows, output=config.base.output, best=best_run(rows))


def _write(config: SweepConfig, report: SweepReport) -> None:
    base = asdict(config.base)
    record = {"transfer": base, "versions": versions(), **as_record(report.rows, report.metric)}
    write_json(report.output / RECORD, record)
    header, rows = report.cells
    for name, text in ((MARKDOWN, as_markdown(header, rows) + _links(report)), (CSV, as_csv(header, rows))):
        with new_file(report.output / name, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")


def _links(report: SweepReport) -> str:
    """Lines of Markdown that lead to the page of each run, and say why it failed."""
    lines = []
    for result in (each for row in report.rows for each in row.runs):
        score = "" if result.score is None else f"{result.score:.3f}"
        weights = ", weights kept" if result.has_weights else ""
        page = f"{result.name}.run/{PAGE}"
        name = f"[{result.name}]({page})" if (report.output / page).exists() else result.name
        lines.append(f"- {name}: {score or 'failed: ' + result.error}{weights}\n")
    return "\n" + "".join(lines)
