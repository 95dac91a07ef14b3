"""The card's table as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator

from paligemma2.report.card_table import CardRow, CardTable, Number

_CSV = (
    "row",
    "task",
    "metric",
    "column",
    "mode",
    "model",
    "control",
    "published",
    "value",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "num_scored",
    "num_rows",
    "is_whole",
    "protocol",
    "notes",
)
HOW_TO_READ = (
    "Numbers are times 100; ± is half of the 95 % bootstrap interval of our examples. The difference is ours "
    "less the card's, with the ends of that interval; the spread between runs of fine-tuning, of which the "
    "card gives the mean of five, is not in it. A number in brackets is of a part of the data or of a "
    "control, and is not compared."
)


def markdown(table: CardTable) -> str:
    """The table, how to read it, and the notes on each number."""
    header = ["row", "metric"]
    for column in table.columns:
        header += [f"card {column.card}"] if column.card else []
        if column.models:
            header += [column.title if not column.card else f"ours, {column.title}"]
            header += ["difference"] if column.card else []
            header += ["examples"]
    rows = [[row.title, row.metric, *_cells(table, row)] for row in table.rows]
    lines = ["# The card's table", "", HOW_TO_READ, "", *_table(header, rows)]
    notes = list(_notes(table))
    if notes:
        lines += ["", "## Notes", "", *notes]
    return "\n".join(lines) + "\n"


def csv_text(table: CardTable) -> str:
    """One line for each number and each control, and for each row without a run; numbers times 100."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for place, column in enumerate(table.columns):
            record = {"row": row.title, "task": row.task, "metric": row.metric, "column": column.card}
            published = row.published[place]
            record |= {"published": "" if published is None else f"{published:.1f}"}
            number = row.numbers[place]
            if number is not None:
                writer.writerow({**record, **_record(number)})
                for control in number.controls:
                    value = f"{100 * control.value:.3f}"
                    mode = number.run.result.mode
                    writer.writerow({**record, "mode": mode, "control": control.name, "value": value})
            elif published is not None:
                writer.writerow(record)
    return text.getvalue()


def value_text(number: Number) -> str:
    """The number with half of its interval; in brackets for a part of the data."""
    low, high = number.row.interval
    text = f"{100 * number.row.value:.1f} ± {50 * (high - low):.1f}"
    return text if number.is_whole else f"({text})"


def difference_text(number: Number) -> str:
    """The difference with its interval; empty where there is none."""
    if number.difference is None:
        return ""
    value, low, high = number.difference
    return f"{signed(value)} [{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    """With one decimal and its sign, the minus as wide as the plus."""
    return f"{value:+.1f}".replace("-", "−")


def coverage_text(number: Number) -> str:
    """How many examples were scored, of how many."""
    scored, rows = number.row.num_scored, number.row.num_rows
    return f"{scored:,}" if scored == rows else f"{scored:,} of {rows:,}"


def _cells(table: CardTable, row: CardRow) -> Iterator[str]:
    for column, published, number in zip(table.columns, row.published, row.numbers, strict=True):
        if column.card:
            yield "–" if published is None else f"{published:.1f}"
        if column.models:
            yield "" if number is None else value_text(number)
            if column.card:
                yield "" if number is None else difference_text(number)
            yield "" if number is None else coverage_text(number)


def _notes(table: CardTable) -> Iterator[str]:
    for row in table.rows:
        for column, number in zip(table.columns, row.numbers, strict=True):
            if number is None:
                continue
            where = f"{row.title}, {column.title}" if len(table.columns) > 1 else row.title
            controls = [f"control ({each.name}): {100 * each.value:.1f}" for each in number.controls]
            for note in (*controls, *number.notes):
                yield f"- {_escaped(where)}: {_escaped(note)}"


def _table(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(_escaped(cell) for cell in header) + " |"
    yield "| --- | --- |" + " ---: |" * (len(header) - 2)
    for row in rows:
        yield "| " + " | ".join(_escaped(cell) for cell in row) + " |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _record(number: Number) -> dict[str, str]:
    result, row = number.run.result, number.row
    values = dict(zip(("value", "low", "high"), (row.value, *row.interval), strict=True))
    record = {name: f"{100 * value:.3f}" for name, value in values.items()}
    if number.difference is not None:
        names = ("difference", "difference_low", "difference_high")
        record |= {name: f"{value:.3f}" for name, value in zip(names, number.difference, strict=True)}
    return record | {
        "mode": result.mode,
        "model": result.model,
        "control": result.control,
        "num_scored": str(row.num_scored),
        "num_rows": str(row.num_rows),
        "is_whole": str(number.is_whole).lower(),
        "protocol": str(result.protocol.get("hash", "")),
        "notes": "; ".join(number.notes),
    }
