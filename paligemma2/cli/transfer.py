"""`paligemma2 transfer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paligemma2.cli.options import Model
from paligemma2.cli.terminal import print_note, print_table, training_bar

if TYPE_CHECKING:
    from paligemma2.jobs.transfer_evaluation import Evaluation


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
    recipe: Annotated[
        str | None,
        typer.Option(
            help="As cococap; `own` is for data of your own.", show_default="by the size of the model"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="As training.learning_rate=3e-6 or lora.rank=8.", metavar="NAME=VALUE"),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Part that is not trained: image, vision_tower, projector, decoder, embedding."),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Train an adapter on weights of few bits: int8 or int4.")
    ] = None,
    faults: Annotated[
        str, typer.Option(help="fail: end at an example that cannot be used; skip: count it and go on.")
    ] = "fail",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates.", show_default="by recipe")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per update.", show_default="by recipe")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak.", show_default="by recipe")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the examples and of everything random.")] = 0,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures ahead.")] = 1,
) -> None:
    """Fine-tune a model on your own examples.

    It is scored before and after on held-out ones.
    """
    from paligemma2.data.sources import parse_source
    from paligemma2.jobs.transfer import run
    from paligemma2.jobs.transfer_config import configure

    flags = {
        "training.freeze": ",".join(freeze) if freeze else None,
        "training.steps": steps,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.seed": seed,
        "quantize": quantize,
        "rules.faults": faults,
        "num_workers": num_workers,
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if steps is not None:
        given.append("epochs=none")
    config = configure(
        model, tuple(map(parse_source, data)), output, recipe=recipe, settings=[*given, *(settings or ())]
    )
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("transfer", message), _show_evaluation)
    rows = {
        "metric": f"{report.metric}, {report.examples} held-out examples",
        "before": f"{report.before:.3f}",
        "after": f"{report.after:.3f}",
        "model": str(report.output),
    }
    print_table(rows)


def _show_evaluation(evaluation: "Evaluation") -> None:
    print_note(
        "transfer", f"step {evaluation.step}: score {evaluation.score:.3f}, loss {evaluation.loss:.4f}"
    )
