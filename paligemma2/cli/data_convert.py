"""`paligemma2 data convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.terminal import print_note, rows_counter

if TYPE_CHECKING:
    from paligemma2.data.row_tasks import Task
    from paligemma2.jobs.data_convert import DataConvertReport

_FORMATS = "jsonl, imagefolder, coco, yolo, voc, llava, csv, parquet or tar"


def data_convert(
    source: Annotated[
        Path, typer.Argument(help="Folder or file of the data set.", metavar="SRC", show_default=False)
    ],
    destination: Annotated[Path, typer.Argument(help="The new folder.", metavar="DST", show_default=False)],
    to: Annotated[str, typer.Option(help=f"{_FORMATS}.", metavar="FORMAT", show_default=False)],
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of SRC; found out where not given.", metavar="FORMAT")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only train, valid or test.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="detect (boxes), segment (boxes and masks) or caption.",
            show_default="text stays, objects become detect",
        ),
    ] = None,
    all_labels: Annotated[
        bool,
        typer.Option("--all-labels", help="Ask every picture for all labels, not for those that it shows."),
    ] = False,
    mask_codec: Annotated[
        str, typer.Option(help="Codec of mask tokens: 'default', vae-oid.npz or a file of your own.")
    ] = "default",
) -> None:
    """Write a data set in another format, its pictures copied.

    Says how many rows were read, written and left out, and why.
    """
    from paligemma2.jobs.data_convert import DataConvertConfig, run

    config = DataConvertConfig(
        source=source,
        destination=destination,
        to=to,
        format=source_format,
        split=split,
        task=cast("Task | None", task),
        all_labels=all_labels,
        mask_codec=mask_codec,
    )
    with rows_counter("converted") as on_row:
        report = run(config, on_row)
    _print_report(report, destination)


def _print_report(report: "DataConvertReport", destination: Path) -> None:
    for problem in report.problems:
        print_note("skipped" if problem.is_skipped else "note", str(problem))
    for kind, counts in (("skipped", report.skipped), ("note", report.noted)):
        for reason, count in counts.most_common():
            print_note(kind, f"{count:,} × {reason}")
    splits = ", ".join(f"{split} {count:,}" for split, count in report.written.items())
    print(
        f"{destination}: {report.read:,} rows read from {report.format}, "
        f"{report.written.total():,} written ({splits}), {report.skipped.total():,} skipped"
    )
