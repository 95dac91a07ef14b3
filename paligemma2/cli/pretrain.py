"""`paligemma2 pretrain`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_note, print_table, training_bar
from paligemma2.errors import InputError


def pretrain(
    model: Annotated[str, typer.Argument(help="Which model: only 'tiny' can be trained from nothing.")],
    output: Annotated[Path, typer.Option(help="The new model folder.", metavar="FOLDER")],
    runs: Annotated[
        Path | None,
        typer.Option(
            help="For states and logs; a stopped run goes on from there.",
            metavar="FOLDER",
            show_default="OUTPUT.runs",
        ),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that draw pictures ahead.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch.", show_default="its own choice")
    ] = None,
) -> None:
    """Train the small model from nothing.

    It takes an hour or so on two cores, and ends with scores on pictures that were held out.
    """
    if model != "tiny":
        raise InputError(
            f"{model!r} cannot be pre-trained here", hint="give 'tiny'; fine-tune others by `transfer`"
        )
    from paligemma2.jobs.pretrain import PretrainConfig, run

    config = PretrainConfig(
        output=output,
        runs=runs or output.with_name(output.name + ".runs"),
        num_workers=num_workers,
        threads=threads,
    )
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("pretrain", message))
    for split, scores in report.scores.items():
        numbers = {name: value for name, value in asdict(scores).items() if isinstance(value, float)}
        print_table({name: f"{value:.3f}" for name, value in numbers.items()}, title=f"scores on {split}")
    print(report.output)
