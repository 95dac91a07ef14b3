"""Self-contained HTML pages: pictures, what was asked and answered, charts, tables; charts alone as SVG."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from PIL import Image

from paligemma2.drawing.chart import HEIGHT, WIDTH, Chart, plot
from paligemma2.errors import InputError

PIXEL_ART_BELOW = 160  # pictures narrower than this are enlarged without blur


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a header; columns that hold only numbers are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise InputError(
                    f"a table row has {len(row)} cells under {len(self.header)} headings: {row}",
                    hint="give every row one cell for each heading",
                )

    @property
    def is_number(self) -> tuple[bool, ...]:
        """For each column, whether all its cells are numbers or empty."""
        return tuple(all(_is_number(row[i]) for row in self.rows) for i in range(len(self.header)))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with a title, pairs such as (what was asked, what was answered), and lines of text."""

    image: Image.Image
    title: str = ""
    answers: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page: a title, lines of text, charts and pictures side by side, a table."""

    title: str
    lines: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None


def render_page(title: str, sections: Sequence[Section]) -> str:
    """A whole HTML document that needs nothing from outside: styles and pictures (as PNG) are inside it.

    All text is escaped, so it may hold anything, such as the words of a model or of a user.
    """
    template = page_environment().get_template("page.html")
    page = template.render(title=title, sections=sections, pixel_art_below=PIXEL_ART_BELOW)
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate could not be written to a file


def render_charts(charts: Sequence[Chart]) -> str:
    """The charts side by side, as one SVG picture that stands alone."""
    return page_environment().get_template("charts.svg").render(charts=charts)


def page_environment() -> jinja2.Environment:
    """Where the templates of pages are found; text is escaped.

    `data_url` is a filter for pictures, `plot` one for charts.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("paligemma2.assets", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = _data_url
    environment.filters["plot"] = plot
    environment.globals |= {"chart_width": WIDTH, "chart_height": HEIGHT}
    return environment


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    is_png_mode = image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}
    (image if is_png_mode else image.convert("RGB")).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _is_number(text: str) -> bool:
    try:
        float(text.strip().rstrip("%").replace(" ", "").replace(",", ""))
    except ValueError:
        return text.strip() in {"", "-", "–"}
    return True
