"""`paligemma2 pretrain`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_note, print_table, training_bar
from paligemma2.errors import InputError


def pretrain(
    model: Annotated[str, typer.Argument(help="What to train from nothing: 'tiny' or 'mask-codec'.")],
    output: Annotated[Path, typer.Option(help="The new folder.", metavar="FOLDER")],
    runs: Annotated[
        Path | None,
        typer.Option(
            help="For states and logs; a stopped run goes on from there.",
            metavar="FOLDER",
            show_default="OUTPUT.runs",
        ),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that draw pictures ahead.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch.", show_default="its own choice")
    ] = None,
) -> None:
    """Train the small model, or the codec of its masks, from nothing.

    The model takes a little over an hour on two cores, the codec ten minutes on one. Both end with scores on
    pictures that were held out.
    """
    runs = runs or output.with_name(output.name + ".runs")
    if model == "tiny":
        _pretrain_tiny(output, runs, num_workers, threads)
    elif model == "mask-codec":
        _pretrain_mask_codec(output, runs, num_workers, threads)
    else:
        raise InputError(
            f"{model!r} cannot be pre-trained here",
            hint="give 'tiny' or 'mask-codec'; fine-tune others by `transfer`",
        )


def _pretrain_tiny(output: Path, runs: Path, num_workers: int, threads: int | None) -> None:
    from paligemma2.jobs.pretrain import PretrainConfig, run

    config = PretrainConfig(output=output, runs=runs, num_workers=num_workers, threads=threads)
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("pretrain", message))
    for split, scores in report.scores.items():
        numbers = {name: value for name, value in asdict(scores).items() if isinstance(value, float)}
        print_table({name: f"{value:.3f}" for name, value in numbers.items()}, title=f"scores on {split}")
    print(report.output)


def _pretrain_mask_codec(output: Path, runs: Path, num_workers: int, threads: int | None) -> None:
    from paligemma2.jobs.pretrain_mask_codec import MaskCodecPretrainConfig, run

    config = MaskCodecPretrainConfig(output=output, runs=runs, num_workers=num_workers, threads=threads)
    with training_bar() as on_progress:
        report = run(config, on_progress, lambda message: print_note("pretrain", message))
    rows = {
        family: f"{scores.iou:.3f}   codes kept in a turn of 3 degrees: {scores.equal_codes_turned:.3f}"
        for family, scores in report.scores.items()
    }
    print_table(rows, title="round-trip IoU on held-out figures")
    print(report.output)
