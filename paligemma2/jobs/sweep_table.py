"""The table at the end of a sweep: the score of every run, with mean and deviation over seeds."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How one run ended.

    Attributes:
        name: of its folder.
        settings: its values of the grid.
        seed: of the run.
        metric: the name of the score; empty if the run failed.
        before: score of the starting model, or None if the run failed.
        score: that of the new model, or None if the run failed.
        error: why it failed.
        has_weights: whether the weights of the new model are there.
    """

    name: str
    settings: Mapping[str, str]
    seed: int
    metric: str = ""
    before: float | None = None
    score: float | None = None
    error: str = ""
    has_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """All runs of one combination of settings.

    Attributes:
        settings: the combination.
        runs: one for each seed.
    """

    settings: Mapping[str, str]
    runs: tuple[RunResult, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """Of the runs that did not fail."""
        return tuple(run.score for run in self.runs if run.score is not None)

    @property
    def mean(self) -> float | None:
        """Over the runs that did not fail; None if all did."""
        return fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample (n - 1) of the runs that did not fail, if there are two."""
        return stdev(self.scores) if len(self.scores) > 1 else None


def rows_of(results: Sequence[RunResult]) -> tuple[SweepRow, ...]:
    """The combinations, best mean first, those of failed runs alone last; of equal ones in their order."""
    together: dict[tuple[str, ...], list[RunResult]] = {}
    for result in results:
        together.setdefault(tuple(result.settings.values()), []).append(result)
    rows = [SweepRow(settings=runs[0].settings, runs=tuple(runs)) for runs in together.values()]
    return tuple(sorted(rows, key=lambda row: -1.0 if row.mean is None else row.mean, reverse=True))


def best_run(rows: Sequence[SweepRow]) -> RunResult | None:
    """The best run of the best combination; of equal ones the first."""
    done = [run for run in rows[0].runs if run.score is not None] if rows else []
    return max(done, key=lambda run: run.score or 0.0, default=None)


def cells(rows: Sequence[SweepRow], metric: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of text: settings, the score of each seed, and over seeds mean and deviation.

    Args:
        rows: at least one, all with the same settings.
        metric: the name of the score.
    """
    names = tuple(name.removeprefix("training.") for name in rows[0].settings)
    seeds = tuple(run.seed for run in max((row.runs for row in rows), key=len))
    before = next((run.before for row in rows for run in row.runs if run.before is not None), None)
    start = "" if before is None else f"{before:.3f}"
    if len(seeds) == 1:
        header = (*names, "before", metric)
        return header, [(*row.settings.values(), start, _score(row.runs[0])) for row in rows]
    header = (*names, "before", *(f"seed {seed}" for seed in seeds), f"mean {metric}", "deviation")
    return header, [
        (
            *row.settings.values(),
            start,
            *(_score(next((run for run in row.runs if run.seed == seed), None)) for seed in seeds),
            FAILED if row.mean is None else f"{row.mean:.3f}",
            "" if row.deviation is None else f"{row.deviation:.3f}",
        )
        for row in rows
    ]


def _score(run: RunResult | None) -> str:
    """Of a run; empty for one that is still to come."""
    if run is None:
        return ""
    return FAILED if run.score is None else f"{run.score:.3f}"


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown; numbers to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def as_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def as_record(rows: Sequence[SweepRow], metric: str) -> dict[str, Any]:
    """The table with all digits, as JSON can hold it."""
    return {
        "metric": metric,
        "rows": [
            {
                "settings": dict(row.settings),
                "mean": row.mean,
                "deviation": row.deviation,
                "runs": [asdict(run) for run in row.runs],
            }
            for row in rows
        ],
    }
