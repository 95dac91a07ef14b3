"""`paligemma2 data pack`."""

from pathlib import Path
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_note, rows_counter

_SHOWN = 3


def data_pack(
    source: Annotated[
        Path, typer.Argument(help="Folder of the benchmark's files.", metavar="SRC", show_default=False)
    ],
    destination: Annotated[Path, typer.Argument(help="The new folder.", metavar="DST", show_default=False)],
    task: Annotated[str, typer.Option(help="A benchmark, or a file of one.", show_default=False)],
    split: Annotated[
        list[str] | None,
        typer.Option(help="Of the task; several are possible.", show_default="all of the card"),
    ] = None,
) -> None:
    """Write the rows and pictures of a benchmark into tar shards, for `paligemma2 bulk`."""
    from paligemma2.jobs.data_pack import DataPackConfig, run

    config = DataPackConfig(task=task, data=source, destination=destination, splits=tuple(split or ()))
    with rows_counter("packed") as on_row:
        report = run(config, on_row)
    if report.missing:
        names = ", ".join(report.missing[:_SHOWN]) + (", …" if len(report.missing) > _SHOWN else "")
        print_note("skipped", f"{len(report.missing)} pictures are not there: {names}")
    counts = ", ".join(f"{name} {count:,}" for name, count in report.written.items())
    print(f"{destination}: {sum(report.written.values()):,} rows written ({counts})")
