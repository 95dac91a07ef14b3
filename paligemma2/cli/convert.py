"""`paligemma2 convert`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Quantize, Source, checkpoint_path, stored_dtype
from paligemma2.cli.terminal import bytes_bar, print_note, print_table
from paligemma2.errors import InputError

if TYPE_CHECKING:
    from paligemma2.jobs.convert import ConvertReport
    from paligemma2.jobs.merge_check import Change
    from paligemma2.model.weight_forms import Quantization


def convert(
    source: Source,
    destination: Annotated[
        Path, typer.Argument(help="A big_vision file if it ends in .npz, else a Hugging Face folder.")
    ],
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="as in SOURCE")
    ] = None,
    quantize: Quantize = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Merge this LoRA adapter of peft into the weights.", metavar="FOLDER")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set whose held-out examples say what merging changes.", metavar="FOLDER"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Write a checkpoint in another layout or dtype, with weights of few bits, or with an adapter merged."""
    from paligemma2.jobs.convert import run
    from paligemma2.jobs.merge_check import compare, examples_for

    if data is not None and adapter is None:
        raise InputError("--data is given and --adapter is not", hint="examples say what merging changes")
    path, examples = checkpoint_path(source), None if data is None else examples_for(data, destination)
    with bytes_bar("converting") as on_progress:
        report = run(
            path,
            destination,
            dtype=stored_dtype(dtype),
            quantize=cast("Quantization | None", quantize),
            adapter=adapter,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    _print_report(report)
    if adapter is not None:
        change = compare(path, adapter, destination, examples, partial(print_note, "convert"))
        print_table(_rows(change))


def _print_report(report: "ConvertReport") -> None:
    print(f"{report.destination}: {report.num_tensors} tensors, {report.dtype}")
    if report.num_dropped_rows:
        print_note(
            "note",
            f"{report.num_dropped_rows} rows of the vocabulary (<image>, filler) have no place in a .npz",
        )
    if report.num_zero_rows:
        print_note(
            "note",
            f"{report.num_zero_rows} filler rows of the vocabulary are not in SOURCE: written as zeros",
        )
    if report.destination.suffix != ".npz" and not report.tokenizer_files:
        print_note(
            "note", "SOURCE has no tokenizer; copy the files of one into the folder before you predict"
        )


def _rows(change: "Change") -> dict[str, str]:
    from paligemma2.jobs.merge_check import ScoreChange

    if isinstance(change, ScoreChange):
        return {
            "metric": f"{change.metric}, {change.examples} held-out examples",
            "base and adapter": f"{change.before:.3f}",
            "merged": f"{change.after:.3f}",
        }
    largest = f"{change.largest:.2g}, of logits up to {change.largest_logit:.3g}"
    return {"largest difference": largest}
