"""The card's table as a page of HTML that needs nothing from outside, with the worst examples of each row."""

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from paligemma2.drawing.page import PIXEL_ART_BELOW, page_environment
from paligemma2.evaluation.task import Task
from paligemma2.report.card_table import CardRow, CardTable, Number
from paligemma2.report.markdown import HOW_TO_READ, coverage_text, difference_text, signed, value_text
from paligemma2.report.samples import Sample, worst_samples

_FEW_ROWS = 6
_WIDTH, _HEIGHT = 132, 20
_JPEG_QUALITY = 82
_PARTS_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A difference and its interval, as places in a small drawing whose middle is zero."""

    low: float
    value: float
    high: float
    kind: str


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """A number with all that the page tells of it."""

    row: CardRow
    column: str
    number: Number
    facts: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]


def report_page(table: CardTable, tasks: Mapping[str, Task], *, num_samples: int) -> str:
    """A whole HTML document: styles and pictures are inside, and it has no scripts.

    Args:
        table: what to show.
        tasks: by name, for what is said of the protocol.
        num_samples: pictures of each number, the worst first.

    Raises:
        DataError: a file of predictions is damaged.
    """
    environment = page_environment()
    environment.filters |= {
        "photo_url": _photo_url,
        "anchor": _anchor,
        "value": value_text,
        "difference": difference_text,
        "coverage": coverage_text,
    }
    scale = _scale(table)
    page = environment.get_template("card.html").render(
        title="PaliGemma 2: the card's table",
        sections=(),
        table=table,
        tiles=list(_tiles(table)),
        how_to_read=HOW_TO_READ.replace("95 %", "95\u00a0%"),
        shown=list(_shown(table, tasks, num_samples)),
        is_open=sum(1 for _ in table.numbers) <= _FEW_ROWS,
        mark=lambda number: _mark(number, scale),
        scale=scale,
        mark_width=_WIDTH,
        mark_height=_HEIGHT,
        pixel_art_below=PIXEL_ART_BELOW,
        signed=signed,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate could not be written to a file


def _tiles(table: CardTable) -> Iterator[tuple[str, str]]:
    numbers = table.numbers
    compared = [each.difference for each in numbers if each.difference is not None]
    yield f"{sum(any(row.numbers) for row in table.rows)} of {len(table.rows)}", "rows with a number of ours"
    if compared:
        yield str(len(compared)), "numbers on all the data, beside one of the card"
        near = sum(low <= 0 <= high for _, low, high in compared)
        yield f"{near} of {len(compared)}", "intervals that hold the card's number"
    partial = sum(not each.is_whole for each in numbers)
    if partial:
        yield str(partial), "on a part of the data, not compared"


def _scale(table: CardTable) -> float:
    """The difference at either end of the drawings: the first of 1, 2, 5, 10, 20 … that all fit in."""
    compared = [each.difference for each in table.numbers if each.difference is not None]
    largest = max((abs(value) for each in compared for value in each), default=1.0)
    power = 10.0 ** math.floor(math.log10(max(largest, 1e-3)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest)


def _mark(number: Number, scale: float) -> _Mark | None:
    if number.difference is None:
        return None
    value, low, high = number.difference
    kind = "above" if low > 0 else "below" if high < 0 else "near"
    places = [_WIDTH / 2 + each / scale * (_WIDTH / 2 - 5) for each in (low, value, high)]
    return _Mark(low=places[0], value=places[1], high=places[2], kind=kind)


def _shown(table: CardTable, tasks: Mapping[str, Task], num_samples: int) -> Iterator[_Shown]:
    for row in table.rows:
        for column, number in zip(table.columns, row.numbers, strict=True):
            if number is not None:
                yield _Shown(
                    row=row,
                    column=column.title,
                    number=number,
                    facts=tuple(_facts(row, number, tasks.get(row.task))),
                    parts=tuple(_parts(number)),
                    samples=tuple(worst_samples(number.run.folder, number.row, num_samples)),
                )


def _facts(row: CardRow, number: Number, task: Task | None) -> Iterator[tuple[str, str]]:
    result = number.run.result
    prefix = result.protocol.get("prefix", task.prefix if task is not None else None)
    if prefix is not None:
        yield "prompt", str(prefix)
    yield "metric", f"{row.metric}, {result.mode} rule" if result.mode == "official" else row.metric
    yield "splits", ", ".join(number.row.splits)
    yield "examples", f"{number.row.num_scored:,} of {number.row.num_rows:,} scored"
    yield "model", f"{result.model} ({result.fingerprint[:12]})" if result.fingerprint else result.model
    if "hash" in result.protocol:
        yield "protocol", str(result.protocol["hash"])
    if result.seconds:
        yield "seconds", f"{result.seconds:,.0f}"
    if result.date:
        yield "date", result.date
    if result.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())


def _parts(number: Number) -> Iterator[tuple[str, str]]:
    parts = list(number.row.parts.items())
    for name, value in parts[:_PARTS_SHOWN]:
        yield name, f"{100 * value:.1f}"
    if len(parts) > _PARTS_SHOWN:
        yield f"and {len(parts) - _PARTS_SHOWN} more", ""


def _anchor(text: str) -> str:
    """A text as an id: letters, digits and hyphens, and a number that tells "RefCOCO" from "RefCOCO+"."""
    plain = re.sub(r"[^0-9A-Za-z]+", "-", text).strip("-").lower()
    return f"{plain}-{sum(text.encode('utf-8'))}"


def _photo_url(image: Image.Image) -> str:
    """As JPEG or as PNG, whichever is smaller: photographs or drawings."""
    found = []
    for kind in ("jpeg", "png"):
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, kind.upper(), quality=_JPEG_QUALITY, optimize=True)
        found.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    _, kind, content = min(found)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
