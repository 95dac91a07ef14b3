"""`paligemma2 evaluate`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from paligemma2.cli.options import Quantize
from paligemma2.cli.processes import first_process_speaks
from paligemma2.cli.terminal import EvaluationBars, print_note, print_rows
from paligemma2.errors import InputError

if TYPE_CHECKING:
    from paligemma2.evaluation.result import TaskResult
    from paligemma2.jobs.evaluate_config import EvaluateConfig

_ALL = "all"


def evaluate(
    models: Annotated[
        list[str],
        typer.Option(
            "--model", help="'tiny', a folder, a big_vision .npz, or a hub id; several are compared."
        ),
    ],
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task",
            help="As vqav2 (see `paligemma2 tasks`), a .py file, or `all` with a folder in --data.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(help="Folder of the data set, or of one per task; or owner/name.", metavar="FOLDER"),
    ],
    output: Annotated[Path, typer.Option(help="Predictions and results go there.", metavar="RUNS")],
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="Of the task; a test split gives the file for its server.",
            show_default="the card's",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many rows of each split, drawn.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --limit, --control and the intervals.")] = 0,
    protocol: Annotated[
        str,
        typer.Option(help="paligemma: caps, window and resize as of the card's numbers; hf: the model's."),
    ] = "paligemma",
    mode: Annotated[str, typer.Option(help="Rules of the metrics: paligemma or official.")] = "paligemma",
    control: Annotated[
        str, typer.Option(help="Spoil something: 'shuffled pictures' or 'random weights'.")
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Examples that are asked at once.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantize: Quantize = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a LoRA for the models.")] = None,
    mask_codec: Annotated[Path | None, typer.Option(help="As vae-oid.npz, for released checkpoints.")] = None,
) -> None:
    """Score models on benchmarks, by the protocol of the card.

    Started again, it goes on where it was stopped; started by torchrun, processes share the examples.
    """
    from paligemma2.jobs.evaluate_config import EvaluateConfig

    config = EvaluateConfig(
        models=tuple(models),
        tasks=_named(tasks, data),
        data=data,
        output=output,
        splits=tuple(splits or ()),
        limit=limit,
        seed=seed,
        protocol=cast(Any, protocol),  # the configuration checks the words
        mode=cast(Any, mode),
        control=cast(Any, control),
        batch_size=batch_size,
        device=device,
        dtype=cast(Any, dtype),
        quantize=cast(Any, quantize),
        adapter=adapter,
        mask_codec=mask_codec,
    )
    with first_process_speaks() if _is_shared() else nullcontext():
        _run(config)


def _run(config: "EvaluateConfig") -> None:
    from paligemma2.jobs.evaluate import run
    from paligemma2.jobs.evaluate_table import HEADER, result_rows

    with EvaluationBars() as bars:
        results = run(
            config,
            on_progress=bars.show,
            on_event=lambda message: print_note("evaluate", message),
            on_load=bars.load,
        )
    print_rows(HEADER, result_rows(results, config.tasks))
    for result in results:
        _note(result)
    print_note("note", f"predictions and results are in {config.output}")


def _note(result: "TaskResult") -> None:
    """Say what keeps a number from being compared with the card's."""
    from paligemma2 import tasks

    name = f"{result.model}, {result.task}"
    if not result.is_whole:
        what = f"{result.limit} rows of each split" if result.limit is not None else "a part of the examples"
        print_note("note", f"{name}: only {what}, which is no number of the card")
    if result.task in tasks.names() and not (task := tasks.load(result.task)).exact:
        print_note("note", f"{name}: not exactly the card's evaluation: {task.inexact_reason}")


def _named(given: list[str], data: str) -> tuple[str, ...]:
    if _ALL not in given:
        return tuple(given)
    from paligemma2 import tasks

    found = tuple(name for name in tasks.names() if (Path(data) / name).is_dir())
    if not found:
        raise InputError(
            f"{data} has no folder that is called like a task",
            hint="put each data set into a folder with the name of its task, or name one with --task",
        )
    return found


def _is_shared() -> bool:
    from paligemma2.model.processes import started_with_others

    return started_with_others()
