"""`paligemma2 sweep`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import (
    KeepWeights,
    Model,
    NumWorkers,
    RecipeName,
    RecipeSettings,
    Seed,
    Steps,
    Track,
    TrainingData,
)
from paligemma2.cli.terminal import print_note, print_rows, training_bar
from paligemma2.errors import WorkError

if TYPE_CHECKING:
    from paligemma2.jobs.sweep_config import Keep
    from paligemma2.jobs.transfer_config import TransferConfig
    from paligemma2.jobs.transfer_evaluation import Evaluation


def sweep(
    data: TrainingData,
    output: Annotated[
        Path, typer.Option(help="Folder of the sweep, with one of each run.", metavar="FOLDER")
    ],
    model: Model = "tiny",
    recipe: RecipeName = None,
    settings: RecipeSettings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to try, as in training.dropout=0,0.1; of several all combinations.",
            metavar="NAME=VALUE,...",
            show_default="the seven learning rates of the paper",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 1,
    seed: Seed = 0,
    keep: KeepWeights = "best",
    steps: Steps = None,
    num_workers: NumWorkers = 1,
    track: Track = None,
) -> None:
    """Fine-tune with several settings, and compare the scores.

    The same command goes on with a sweep that was stopped.
    """
    from paligemma2.data.sources import parse_source
    from paligemma2.jobs.sweep_config import PAPER_GRID, parse_grid
    from paligemma2.jobs.transfer_config import configure

    flags = {
        "training.steps": steps,
        "training.seed": seed,
        "num_workers": num_workers,
        "tracking.tool": track,
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if steps is not None:
        given.append("epochs=none")
    base = configure(
        model, tuple(map(parse_source, data)), output, recipe=recipe, settings=[*given, *(settings or ())]
    )
    run_sweep(base, grid=parse_grid(grid) if grid else PAPER_GRID, seeds=seeds, keep=keep)


def run_sweep(
    base: "TransferConfig",
    *,
    grid: Mapping[str, tuple[str, ...]] | None = None,
    seeds: int = 1,
    keep: str = "best",
) -> None:
    """Run, and print the table.

    Raises:
        WorkError: runs failed.
    """
    from paligemma2.jobs.sweep import MARKDOWN, run
    from paligemma2.jobs.sweep_config import SweepConfig

    config = SweepConfig(base=base, grid=grid or {}, seeds=seeds, keep=cast("Keep", keep))
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("sweep", message), show_evaluation)
    print_rows(*report.cells)
    print_note("note", f"the table is in {report.output / MARKDOWN}, with the report of each run")
    if report.best is not None:
        kept = "its weights are kept" if report.best.has_weights else "its weights are gone"
        others = ", those of all others removed (--keep all keeps them)" if keep == "best" else ""
        print_note("note", f"best: {report.output / report.best.name}; {kept}{others}")
    if report.failed:
        first, runs = report.failed[0], sum(len(row.runs) for row in report.rows)
        raise WorkError(
            f"{len(report.failed)} of {runs} runs failed ({first.name}: {first.error})",
            hint="the same command tries them again and leaves the others as they are",
        )


def show_evaluation(evaluation: "Evaluation") -> None:
    """A line on an evaluation during training."""
    print_note(
        "transfer", f"step {evaluation.step}: score {evaluation.score:.3f}, loss {evaluation.loss:.4f}"
    )
