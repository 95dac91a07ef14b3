"""`paligemma2 report`."""

from pathlib import Path
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_note


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that `paligemma2 evaluate` wrote.", metavar="RUNS...")
    ],
    output: Annotated[Path, typer.Option(help="Folder for report.md, .csv and .html.", metavar="FOLDER")],
    task: Annotated[
        list[Path] | None,
        typer.Option(help="Python file of a task of your own, to know its numbers.", metavar="FILE"),
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Show rows without a run too, with the card's number alone.")
    ] = False,
    samples: Annotated[int, typer.Option(min=0, help="Pictures for each row, the worst first.")] = 6,
) -> None:
    """Put the results of evaluations beside the numbers of the PaliGemma 2 card."""
    from paligemma2.jobs.report import MARKDOWN, PAGE, ReportConfig, run
    from paligemma2.report.markdown import markdown

    config = ReportConfig(
        runs=tuple(runs),
        output=output,
        task_files=tuple(task or ()),
        has_all_rows=all_rows,
        num_samples=samples,
    )
    print(markdown(run(config)), end="")
    print_note("note", f"the report is {output / PAGE}, the table alone {output / MARKDOWN}")
