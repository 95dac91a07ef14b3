"""`paligemma2 bulk`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Model, Quantize, decoding_of
from paligemma2.cli.terminal import print_note, print_rows, rows_counter
from paligemma2.errors import InputError, WorkError

if TYPE_CHECKING:
    from paligemma2.inference.devices import Dtype
    from paligemma2.jobs.bulk import BulkReport
    from paligemma2.jobs.bulk_evaluate import BulkEvaluateConfig
    from paligemma2.jobs.bulk_worker import Done
    from paligemma2.model.weight_forms import Quantization

_DATA_HELP = "Folder of parquet files or tar shards: a path, s3://…, gs://…, hf://…"
_OUTPUT_HELP = "Folder for the results, in parquet; likewise."
_ADDRESS_HELP = "Of a Ray cluster, or auto for that of this machine."

Data = Annotated[str, typer.Option("--data", help=_DATA_HELP, metavar="URI")]
Output = Annotated[str, typer.Option("--output", help=_OUTPUT_HELP, metavar="URI")]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", help="With fields of the rows in braces: 'answer en {question}'."),
]
Adapter = Annotated[str, typer.Option(help="Answer with this LoRA adapter, a folder.", metavar="FOLDER")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that load the model, on all machines together.")]
RowsPerUnit = Annotated[int, typer.Option(min=1, help="Rows of a file of results; lost if a worker dies.")]
Address = Annotated[str, typer.Option(help=_ADDRESS_HELP, show_default="one is started here")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows that a worker asks about at once.")]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stop an answer after so many tokens.",
        show_default="64; 256 for detect and ocr, 768 for segment",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="As in `predict`: method=beam, …", metavar="NAME=VALUE")
]
ComputeDtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]


Split = Annotated[
    list[str] | None,
    typer.Option("--split", help="Of the task; several are possible.", show_default="all of the card"),
]
Results = Annotated[
    Path, typer.Option(help="With --task: folder of this machine for the result.", metavar="FOLDER")
]
Task = Annotated[
    str, typer.Option(help="Instead of a prompt: a benchmark, or a file of one.", show_default=False)
]


def bulk(
    data: Data,
    output: Output,
    prompt: Prompt = None,
    task: Task = "",
    split: Split = None,
    results: Results = Path("results"),
    model: Model = "tiny",
    adapter: Adapter = "",
    workers: Workers = 1,
    rows_per_unit: RowsPerUnit = 256,
    address: Address = "",
    max_new_tokens: MaxNewTokens = None,
    settings: Settings = None,
    batch_size: BatchSize = 8,
    dtype: ComputeDtype = "auto",
    quantize: Quantize = None,
) -> None:
    """Answer about very many pictures, or evaluate a task on them, on the machines of a Ray cluster.

    The same command goes on with a job that was stopped.
    """
    if (prompt is None) != bool(task):
        raise InputError("give either --prompt or --task", hint="as in --prompt 'answer en {question}'")
    from paligemma2.jobs.bulk import BulkConfig, BulkSettings, run

    sharing = BulkSettings(workers=workers, rows_per_unit=rows_per_unit, address=address)
    if prompt is None:
        if max_new_tokens is not None or settings:
            raise InputError("--max-new-tokens and --set go with --prompt", hint="the task decides them")
        from paligemma2.jobs.bulk_evaluate import BulkEvaluateConfig
        from paligemma2.jobs.evaluate_config import EvaluateConfig

        evaluation = EvaluateConfig(
            models=(model,),
            tasks=(task,),
            data=Path(),
            output=results,
            splits=tuple(split or ()),
            batch_size=batch_size,
            dtype=cast("Dtype", dtype),
            quantize=cast("Quantization | None", quantize),
            adapter=Path(adapter) if adapter else None,
        )
        _evaluate(BulkEvaluateConfig(evaluation=evaluation, data=data, output=output, settings=sharing))
        return
    from paligemma2.jobs.bulk_asking import PromptAsker
    from paligemma2.jobs.predict import usual_limit

    limit = usual_limit(prompt) if max_new_tokens is None else max_new_tokens
    asker = PromptAsker(
        prompt=prompt,
        model=model,
        adapter=adapter,
        decoding=replace(decoding_of(settings or ()), max_new_tokens=limit),
        batch_size=batch_size,
        dtype=cast("Dtype", dtype),
        quantize=cast("Quantization | None", quantize),
    )
    with _counter() as on_done:
        report = run(BulkConfig(asker=asker, data=data, output=output, settings=sharing), on_done)
    _tell(report)


def _evaluate(config: "BulkEvaluateConfig") -> None:
    from paligemma2.jobs.bulk_evaluate import run

    with _counter() as on_done:
        result = run(config, on_done)
    lines = [
        [row.row, row.metric, f"{100 * row.value:.1f}", f"{row.num_scored} of {row.num_rows}"]
        for row in result.rows
    ]
    print_rows(["row", "metric", "value", "scored"], lines)
    folder = config.evaluation.folder(result.model, config.evaluation.tasks[0])
    print_note("note", f"result and predictions are in {folder}")


@contextmanager
def _counter() -> Iterator[Callable[["Done"], None]]:
    with rows_counter("answered") as on_rows:
        count = 0

        def note(done: "Done") -> None:
            nonlocal count
            count += done.num_predictions
            on_rows(count)

        yield note


def _tell(report: "BulkReport") -> None:
    if report.num_found:
        print_note("note", f"{report.num_found} of {report.num_units} parts were there from an earlier start")
    if report.num_problems:
        print_note("warning", f"{report.num_problems} rows have no answer: {report.output}/problems says why")
    print_note("note", f"{report.num_predictions} answers are in {report.output}/predictions")
    if not report.num_predictions:
        raise WorkError("no row has an answer", hint=f"see {report.output}/problems")
