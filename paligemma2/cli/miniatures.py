"""`paligemma2 miniatures`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from paligemma2.jobs.miniatures import MiniatureScore


def miniatures(
    output: Annotated[
        Path, typer.Option(help="Folder of everything; a stopped run goes on in it.", show_default=False)
    ],
    names: Annotated[
        list[str] | None, typer.Option("--task", help="A task; several times.", show_default="all")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Tasks that are worked on at a time.")] = 2,
    seed: Annotated[int, typer.Option(help="Of what is drawn and of the order of examples.")] = 0,
) -> None:
    """Walk every benchmark with drawn data and the small model, from data to report.

    Ten tasks are learned, and scored beside two controls: shuffled pictures and random weights.
    """
    from paligemma2.jobs.miniatures import MiniaturesConfig, run

    config = MiniaturesConfig(output=output, tasks=tuple(names or ()), processes=processes, seed=seed)
    report = run(config, _print_score)
    print(f"{len(report.scores)} tasks in {report.seconds / 60:.1f} minutes; open {report.page}")


def _print_score(score: "MiniatureScore") -> None:
    row = score.result.rows[0]
    controls = ", ".join(f"{each.control} {100 * each.rows[0].value:.1f}" for each in score.controls)
    beside = f" ({controls})" if controls else ""
    print(f"{score.task}: {row.metric} {100 * row.value:.1f}{beside}, {score.seconds:.0f} s", flush=True)
