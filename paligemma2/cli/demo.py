"""`paligemma2 demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option(help="Where the page goes.", metavar="FOLDER")] = Path("demo"),
) -> None:
    """Try the small model, and write a page about it.

    It is asked about three pictures, and taught a new task.
    """
    from paligemma2.jobs.demo import run

    page = run(output, lambda message: print(message, flush=True))
    print(f"open {page}")
