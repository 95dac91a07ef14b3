"""`paligemma2 data check`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paligemma2.cli.options import Model
from paligemma2.cli.terminal import print_note, rows_counter

if TYPE_CHECKING:
    from paligemma2.data.doctor.doctor import DataReport
    from paligemma2.data.doctor.examples import ShownExample
    from paligemma2.drawing.page import Section, Table

_WIDTH_OF_A_FILE = 160  # columns where stdout is no terminal: tables are not squeezed into 80
_FIRST_TOKENS, _LAST_TOKENS = 40, 8  # of a part of an example; the page shows all


def data_check(
    source: Annotated[Path, typer.Argument(help="Folder or file of the data set.", show_default=False)],
    model: Model = "tiny",
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with all of it.", metavar="FILE")
    ] = None,
    data_format: Annotated[
        str | None, typer.Option("--format", help="Of the data; found out where not given.")
    ] = None,
    text_length: Annotated[
        int | None, typer.Option(min=1, help="Longest text in tokens, as in recipes; all where not given.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Findings of each kind that are listed; 0 lists all.")
    ] = 100,
    examples: Annotated[
        int, typer.Option(min=0, help="First rows shown token by token, beside the odd ones; 0 shows none.")
    ] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
) -> None:
    """Examine a data set before training on it.

    Lists with file and line what is broken, leaked between train and eval, cut off or never learned, and
    shows rows as the model reads them. Exits with 0 (no errors), 1 (errors) or 2 (no data set).
    """
    from paligemma2.jobs.data_check import DataCheckConfig, run
    from paligemma2.jobs.data_check_page import data_check_page

    config = DataCheckConfig(
        source=source,
        model=model,
        format=data_format,
        text_length=text_length,
        limit=limit,
        num_first=examples,
        num_workers=workers,
    )
    with rows_counter("checked") as on_row:
        report = run(config, on_row=on_row)
    _print_report(report)
    if html is not None:
        _write(html, data_check_page(report, title=f"Data check of {source}"))
        print_note("page", str(html))
    if report.count("error") or (strict and report.count("warning")):
        raise typer.Exit(1)


def _print_report(report: "DataReport") -> None:
    from paligemma2.jobs.data_check_page import data_check_sections

    for example in report.examples:
        _print_example(example)
    for finding in report.findings:
        place = f"{finding.place}: " if finding.place else ""
        print(f"{place}{finding.severity}: {' '.join(finding.message.split())} [{finding.rule}]")
    for rule, count in report.counts.items():
        kept = sum(1 for finding in report.findings if finding.rule == rule)
        if kept < count:
            print(f"… and {count - kept:,} more [{rule}]; --limit 0 lists all")
    for section in reversed(data_check_sections(report)):
        _print_section(section)


def _print_example(example: "ShownExample") -> None:
    """The tokens in one line for each part of the sequence: pieces between bars, then their ids."""
    from paligemma2.jobs.data_check_page import shown_text

    print(f"{example.place} ({example.why})")
    for role in dict.fromkeys(token.role for token in example.tokens):
        tokens = [token for token in example.tokens if token.role == role]
        cut = sum(token.count for token in tokens if token.is_cut)
        marks = (" (loss)" if any(token.has_loss for token in tokens) else "") + (
            f" ({cut} cut)" if cut else ""
        )
        pieces = _elided([_piece(shown_text(token.text), token.count) for token in tokens], "|")
        print(f"  {role + marks}: {pieces}  [{_elided([str(token.id) for token in tokens], ' ')}]")
    print()


def _elided(parts: list[str], separator: str) -> str:
    """The parts joined, of many only the first and the last."""
    if len(parts) > _FIRST_TOKENS + _LAST_TOKENS + 1:
        left_out = len(parts) - _FIRST_TOKENS - _LAST_TOKENS
        parts = [*parts[:_FIRST_TOKENS], f"… {left_out} more …", *parts[-_LAST_TOKENS:]]
    return separator.join(parts)


def _piece(text: str, count: int) -> str:
    return text if count == 1 else f"{text}×{count}"


def _print_section(section: "Section") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    console.print()
    console.print(Text(section.title, style="bold"))
    if section.table is not None and section.table.rows:
        console.print(_table(section.table))
    for line in section.lines:
        console.print(Text(line))


def _table(content: "Table") -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption=content.caption or None, caption_justify="left"
    )
    for heading, is_number in zip(content.header, content.is_number, strict=True):
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in content.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _write(path: Path, text: str) -> None:
    from paligemma2.errors import WorkError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{path} cannot be written: {error.strerror}", hint="choose another file") from error
