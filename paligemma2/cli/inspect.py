"""`paligemma2 inspect`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paligemma2.cli.options import Source, checkpoint_path
from paligemma2.cli.terminal import bytes_bar, print_table

if TYPE_CHECKING:
    from paligemma2.jobs.inspect import Inspection


def inspect(
    source: Source,
    fingerprint: Annotated[
        bool, typer.Option(help="Compute the logits of a fixed input, which reads all weights once.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a checkpoint is.

    Variant, sizes, dtype, numbers of parameters, and a fingerprint of what it computes.
    """
    from paligemma2.jobs.inspect import run

    with bytes_bar("fingerprint") as on_progress:
        inspection = run(checkpoint_path(source), fingerprint=fingerprint, on_progress=on_progress)
    if as_json:
        print(json.dumps(_as_json(inspection), ensure_ascii=False))
    else:
        print_table(_rows(inspection), title=str(inspection.path))


def _rows(inspection: "Inspection") -> dict[str, str]:
    tensors = inspection.tensors
    rows = {
        "variant": inspection.variant,
        "resolution": f"{inspection.resolution} px, {inspection.num_image_tokens} tokens per image",
        "layout": inspection.layout,
        "dtype": _dtypes(inspection),
        "tensors": f"{tensors.num_tensors}, {tensors.num_bytes:,} bytes",
        "parameters": f"{tensors.num_parameters:,}",
        **{f"  {part}": f"{count:,}" for part, count in tensors.parameters.items()},
    }
    if inspection.num_zero_rows:
        rows["vocabulary"] = f"{inspection.num_zero_rows} filler rows are not in the file, and read as zeros"
    if inspection.fingerprint is not None:
        found = inspection.fingerprint
        rows["fingerprint"] = f"{found.digest} (logits: mean {found.mean:.3f}, largest {found.largest:.3f})"
    return rows


def _dtypes(inspection: "Inspection") -> str:
    dtypes = inspection.tensors.dtypes
    if len(dtypes) == 1:
        return inspection.dtype
    return ", ".join(f"{name} ({count:,} numbers)" for name, count in dtypes.items())


def _as_json(inspection: "Inspection") -> dict[str, Any]:
    found = inspection.fingerprint
    return {
        "path": str(inspection.path),
        "variant": inspection.variant,
        "resolution": inspection.resolution,
        "num_image_tokens": inspection.num_image_tokens,
        "layout": inspection.layout,
        "dtype": inspection.dtype,
        "num_tensors": inspection.tensors.num_tensors,
        "num_bytes": inspection.tensors.num_bytes,
        "num_parameters": inspection.tensors.num_parameters,
        "parameters": dict(inspection.tensors.parameters),
        "num_zero_rows": inspection.num_zero_rows,
        "fingerprint": found and {"digest": found.digest, "mean": found.mean, "largest": found.largest},
    }
