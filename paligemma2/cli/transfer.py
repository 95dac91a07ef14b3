"""`paligemma2 transfer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Model
from paligemma2.cli.terminal import print_note, print_table, training_bar

if TYPE_CHECKING:
    from paligemma2.data.sources import FaultPolicy


def transfer(
    data: Annotated[
        list[str],
        typer.Option(
            help="Data set in any format that `data convert` reads; several with weights are a mixture.",
            metavar="PATH[=WEIGHT]",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The new model folder.", metavar="FOLDER")],
    model: Model = "tiny",
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per update.")] = 16,
    learning_rate: Annotated[
        float, typer.Option(help="Peak; the default suits tiny, the released models want 1e-5 and less.")
    ] = 6e-4,
    seed: Annotated[int, typer.Option(help="Of the order of the examples.")] = 0,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures ahead.")] = 1,
    faults: Annotated[
        str, typer.Option(help="fail: end at an example that cannot be used; skip: count it and go on.")
    ] = "fail",
) -> None:
    """Fine-tune a model on your own examples.

    It is scored before and after on held-out ones.
    """
    from paligemma2.data.sources import parse_source
    from paligemma2.data.training_data import DataRules
    from paligemma2.jobs.transfer import TransferConfig, run

    config = TransferConfig(
        model=model,
        data=tuple(map(parse_source, data)),
        output=output,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        num_workers=num_workers,
        data_rules=DataRules(faults=cast("FaultPolicy", faults)),
    )
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("transfer", message))
    rows = {
        "metric": f"{report.metric}, {report.examples} held-out examples",
        "before": f"{report.before:.3f}",
        "after": f"{report.after:.3f}",
        "model": str(report.output),
    }
    print_table(rows)
