"""`paligemma2 tasks`."""

import json
import sys
from typing import Annotated

import typer

from paligemma2.cli.terminal import print_rows


def tasks(
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects, one for each row.")] = False,
) -> None:
    """List the benchmarks with the numbers that the card of PaliGemma 2 has for them."""
    from paligemma2 import tasks
    from paligemma2.evaluation.task import COLUMNS

    rows = [(name, row) for name in tasks.names() for row in tasks.load(name).rows]
    if as_json:
        content = [
            {
                "task": name,
                "row": row.title,
                "metric": row.metric.name,
                "published": dict(zip(COLUMNS, row.published, strict=True)),
            }
            for name, row in rows
        ]
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return
    lines = [
        (
            name,
            row.title,
            row.metric.name,
            *("–" if each is None else f"{each:.1f}" for each in row.published),
        )
        for name, row in rows
    ]
    print_rows(("task", "row", "metric", *COLUMNS), lines)
