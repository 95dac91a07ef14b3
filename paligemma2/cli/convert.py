"""`paligemma2 convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Quantize, Source, checkpoint_path, stored_dtype
from paligemma2.cli.terminal import bytes_bar, print_note

if TYPE_CHECKING:
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Write a checkpoint in another layout or dtype, or with weights of few bits."""
    from paligemma2.jobs.convert import run

    with bytes_bar("converting") as on_progress:
        report = run(
            checkpoint_path(source),
            destination,
            dtype=stored_dtype(dtype),
            quantize=cast("Quantization | None", quantize),
            overwrite=overwrite,
            on_progress=on_progress,
        )
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
    if destination.suffix != ".npz" and not report.tokenizer_files:
        print_note(
            "note", "SOURCE has no tokenizer; copy the files of one into the folder before you predict"
        )
