"""`paligemma2 bulk`."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Model, Quantize, decoding_of
from paligemma2.cli.terminal import print_note, rows_counter
from paligemma2.errors import WorkError

if TYPE_CHECKING:
    from paligemma2.inference.devices import Dtype
    from paligemma2.jobs.bulk import BulkReport
    from paligemma2.jobs.bulk_worker import Done
    from paligemma2.model.weight_forms import Quantization

_DATA_HELP = "Folder of parquet files or tar shards: a path, s3://…, gs://…, hf://…"
_OUTPUT_HELP = "Folder for the results, in parquet; likewise."
_ADDRESS_HELP = "Of a Ray cluster, or auto for that of this machine."

Data = Annotated[str, typer.Option("--data", help=_DATA_HELP, metavar="URI")]
Output = Annotated[str, typer.Option("--output", help=_OUTPUT_HELP, metavar="URI")]
Prompt = Annotated[
    str, typer.Option("--prompt", "-p", help="With fields of the rows in braces: 'answer en {question}'.")
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


def bulk(
    data: Data,
    output: Output,
    prompt: Prompt,
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
    """Answer about very many pictures, on the machines of a Ray cluster.

    The same command goes on with a job that was stopped.
    """
    import dataclasses

    from paligemma2.jobs.bulk import BulkConfig, run
    from paligemma2.jobs.bulk_worker import Asking
    from paligemma2.jobs.predict import usual_limit

    limit = usual_limit(prompt) if max_new_tokens is None else max_new_tokens
    asking = Asking(
        prompt=prompt,
        model=model,
        adapter=adapter,
        decoding=dataclasses.replace(decoding_of(settings or ()), max_new_tokens=limit),
        batch_size=batch_size,
        dtype=cast("Dtype", dtype),
        quantize=cast("Quantization | None", quantize),
    )
    config = BulkConfig(
        asking=asking,
        data=data,
        output=output,
        workers=workers,
        rows_per_unit=rows_per_unit,
        address=address,
    )
    with rows_counter("answered") as on_rows:
        count = 0

        def note(done: "Done") -> None:
            nonlocal count
            count += done.num_predictions
            on_rows(count)

        report = run(config, note)
    _tell(report)


def _tell(report: "BulkReport") -> None:
    if report.num_found:
        print_note("note", f"{report.num_found} of {report.num_units} parts were there from an earlier start")
    if report.num_problems:
        print_note("warning", f"{report.num_problems} rows have no answer: {report.output}/problems says why")
    print_note("note", f"{report.num_predictions} answers are in {report.output}/predictions")
    if not report.num_predictions:
        raise WorkError("no row has an answer", hint=f"see {report.output}/problems")
