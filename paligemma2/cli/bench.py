"""`paligemma2 bench`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, cast

import typer

from paligemma2.cli.options import Model, Quantize
from paligemma2.cli.terminal import print_note, print_table

if TYPE_CHECKING:
    from paligemma2.inference.devices import Dtype
    from paligemma2.jobs.bench import BenchReport
    from paligemma2.model.weight_forms import Quantization


def bench(
    model: Model = "tiny",
    random: Annotated[
        bool,
        typer.Option(
            "--random", help="MODEL is the name of a variant, e.g. paligemma2-3b-pt-224; weights are random."
        ),
    ] = False,
    batch: Annotated[list[int] | None, typer.Option(help="Prompts at once; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 16,
    repeats: Annotated[int, typer.Option(help="How often; the best counts.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantize: Quantize = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure this machine, and how near to its limits a model comes."""
    from paligemma2.jobs.bench import BenchConfig, run

    config = BenchConfig(
        source=model,
        is_random=random,
        device=device,
        dtype=cast("Dtype", dtype),
        quantize=cast("Quantization | None", quantize),
        batches=tuple(batch or BenchConfig.batches),
        tokens=tokens,
        repeats=repeats,
    )
    report = run(config, on_event=lambda message: print_note("note", message))
    if as_json:
        figures = [dataclasses.asdict(each) | {"fraction": each.fraction} for each in report.figures]
        print(json.dumps(dataclasses.asdict(report) | {"figures": figures}))
    else:
        print_table(_rows(report), title=f"{report.model}, {report.weights}, {report.machine}")


def _rows(report: "BenchReport") -> dict[str, str]:
    rows = {
        "matrix products": f"{report.limits.flops_per_second / 1e9:,.0f} GFLOP/s",
        "reading memory": f"{report.limits.bytes_per_second / 1e9:,.1f} GB/s",
    }
    for figure in report.figures:
        name, _, batch = figure.name.rpartition("_b")
        words = _WORDS[name].format(batch=batch)
        rate = int(batch) / figure.seconds
        rows[words] = f"{figure.seconds * 1e3:,.1f} ms, {rate:,.1f}/s, {figure.fraction:.0%} of the limit"
    rows["weights"] = f"{report.weight_bytes / 1e9:,.2f} GB"
    rows["largest memory"] = f"{report.peak_bytes / 1e9:,.2f} GB"
    return rows


_WORDS = {
    "images": "encode, {batch} at a time",
    "first_token": "first token, {batch} at a time",
    "decode": "token, {batch} at a time",
}
