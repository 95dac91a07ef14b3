"""`paligemma2 data make`."""

from pathlib import Path
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_note


def data_make(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="TASK...", help="Names of tasks, files that hold one, or `all`.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="The new folder; of several tasks, that of their folders.", show_default=False),
    ],
    examples: Annotated[int, typer.Option(min=1, help="Pictures, pairs or videos of each split.")] = 24,
    training_examples: Annotated[
        int | None,
        typer.Option(min=1, help="Of each split that no row is scored on.", show_default="as --examples"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
) -> None:
    """Draw a small data set in the own format of a benchmark, to try a task without its data."""
    from paligemma2.jobs.data_make import DataMakeConfig, run

    config = DataMakeConfig(
        tasks=tuple(names),
        output=output,
        examples=examples,
        training_examples=training_examples,
        seed=seed,
    )
    made = run(config, lambda name: print_note("drawing", name))
    for each in made:
        counts = ", ".join(f"{split} {count}" for split, count in each.splits.items())
        print(f"{each.folder}: {each.task} ({counts})")
