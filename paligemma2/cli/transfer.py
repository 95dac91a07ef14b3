"""`paligemma2 transfer`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from paligemma2.cli.processes import first_process_speaks, is_first_process
from paligemma2.cli.sweep import run_sweep, show_evaluation
from paligemma2.cli.terminal import print_note, print_table, training_bar
from paligemma2.errors import InputError

if TYPE_CHECKING:
    from paligemma2.jobs.transfer_config import TransferConfig


def transfer(
    data: TrainingData,
    output: Annotated[Path, typer.Option(help="The new model folder.", metavar="FOLDER")],
    model: Model = "tiny",
    task: Annotated[
        str, typer.Option(help="A benchmark, as vqav2: its training split, recipe and metric.")
    ] = "",
    recipe: RecipeName = None,
    settings: RecipeSettings = None,
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
    steps: Steps = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per update.", show_default="by recipe")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak.", show_default="by recipe")] = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="So many runs from --seed on, each in its folder inside of --output."),
    ] = None,
    keep: KeepWeights = "best",
    num_workers: NumWorkers = 1,
    track: Track = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say how much memory it will take, and what takes less; then stop.")
    ] = False,
    devices: Annotated[int, typer.Option(min=1, help="Of --plan: how many share the model.")] = 1,
    sharded: Annotated[
        bool, typer.Option("--sharded", help="Share the model with the other processes of torchrun.")
    ] = False,
) -> None:
    """Fine-tune a model on your own examples.

    It is scored before and after on held-out ones.
    """
    from paligemma2.data.sources import parse_source
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
        "tracking.tool": track,
        "sharded": "true" if sharded else None,
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if steps is not None:
        given.append("epochs=none")
    config = configure(
        model,
        tuple(map(parse_source, data)),
        output,
        recipe=recipe,
        task=task,
        settings=[*given, *(settings or ())],
    )
    if devices > 1 and not plan:
        raise InputError("--devices is for --plan", hint="start several processes with torchrun")
    if plan:
        _show_plan(config, devices)
        return
    if not config.sharded and not is_first_process():
        raise InputError("one transfer was started in several processes", hint="add --sharded")
    if seeds is not None:
        run_sweep(config, seeds=seeds, keep=keep)
        return
    with first_process_speaks() if config.sharded else nullcontext():
        _run(config)


def _run(config: "TransferConfig") -> None:
    from paligemma2.jobs.transfer import run
    from paligemma2.jobs.transfer_page import PAGE

    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("transfer", message), show_evaluation)
    rows = {
        "metric": f"{report.metric}, {report.examples} held-out examples",
        "before": f"{report.before:.3f}",
        "after": f"{report.after:.3f}",
        "model": str(report.output),
        "report": str(config.run_folder / PAGE),
    }
    print_table(rows)


def _show_plan(config: "TransferConfig", devices: int) -> None:
    from paligemma2.jobs.transfer_plan import plan

    planned = plan(config, devices=devices)
    memory, size = planned.memory, planned.size
    parts = ("weights", "gradients", "optimizer", "gathered", "activations", "loss")
    free = "" if planned.available is None else f"; {_size(planned.available)} are free here"
    rows = {
        "updates": f"{planned.steps} of {config.training.batch_size} from {planned.examples} examples",
        "trained": f"{planned.trained:,} of {planned.parameters:,} parameters",
        "at a time": f"{size.rows} rows of {size.tokens} tokens, {size.images} pictures",
        "memory": f"{_size(memory.total)} on each of {devices} {planned.device}{free}",
        "most in": f"the {memory.moment}",
        **{f"  {part}": _size(getattr(memory, part)) for part in parts},
    }
    print_table(rows)
    fits = planned.available is None or memory.total <= planned.available
    if planned.alternatives:
        title = "to need less" if fits else "to need less; it does not fit"
        print_table({each.change: _size(each.total) for each in planned.alternatives}, title=title)


def _size(number: float) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
