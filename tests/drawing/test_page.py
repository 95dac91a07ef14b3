import base64
import io
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paligemma2.drawing.chart import WIDTH, Chart
from paligemma2.drawing.page import Picture, Section, Table, render_charts, render_page
from paligemma2.errors import InputError


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def picture_page(image: Image.Image) -> str:
    return render_page("t", [Section(title="s", pictures=(Picture(image=image),))])


def test_the_page_holds_all_that_was_given() -> None:
    picture = Picture(
        image=Image.new("RGB", (8, 4), "red"),
        title="A square",
        answers=(("what colour?", "red"),),
        lines=("a line",),
    )
    table = Table(header=("task", "score"), rows=(("count", "0.91"),), caption="Scores")
    page = render_page("Demo", [Section(title="One", lines=("intro",), pictures=(picture,), table=table)])
    words = Reader(page).words
    for text in [
        "Demo",
        "One",
        "intro",
        "A square",
        "what colour?",
        "red",
        "a line",
        "task",
        "0.91",
        "Scores",
    ]:
        assert text in words


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "F"])
def test_pictures_are_inside_the_page_as_png(mode: str) -> None:
    (source,) = (a["src"] for tag, a in Reader(picture_page(Image.new(mode, (7, 5)))).tags if tag == "img")
    assert source is not None
    head, data = source.split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as stored:
        assert (stored.format, stored.size) == ("PNG", (7, 5))


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = picture_page(Image.new("RGB", (7, 5)))
    assert "http://" not in page
    assert "https://" not in page
    assert not {tag for tag, _ in Reader(page).tags} & {"script", "link", "iframe", "object"}
    assert "prefers-color-scheme: dark" in page


def test_text_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>'
    picture = Picture(image=Image.new("RGB", (1, 1)), title=evil, answers=((evil, evil),), lines=(evil,))
    table = Table(header=(evil,), rows=((evil,),), caption=evil)
    page = render_page(evil, [Section(title=evil, lines=(evil,), pictures=(picture,), table=table)])
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert [a["alt"] for tag, a in reader.tags if tag == "img"] == [evil]
    assert reader.words.count(evil) == 11


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_gives_a_page_that_can_be_written(text: str) -> None:
    render_page(text, [Section(title=text, lines=(text,))]).encode("utf-8")


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    table = Table(header=("task", "before", "after"), rows=(("a", "0.10", "92.5 %"), ("b", "", "n/a")))
    assert table.is_number == (False, True, False)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="1 cells under 2 headings"):
        Table(header=("a", "b"), rows=(("1",),))


def test_small_pictures_are_enlarged_without_blur() -> None:
    assert 'class="small"' in picture_page(Image.new("RGB", (56, 56)))
    assert 'class="small"' not in picture_page(Image.new("RGB", (400, 300)))


def test_charts_are_drawn_as_svg_with_a_word_at_every_point() -> None:
    chart = Chart(title="<loss>", points=((0, 4.0), (10, 2.0)), marked=10)
    reader = Reader(render_page("t", [Section(title="s", charts=(chart,))]))
    (svg,) = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert svg["aria-label"] == "<loss>: 4 at 0 updates, 2 at 10"
    assert [tag for tag, _ in reader.tags].count("polyline") == 1
    assert [attributes.get("class") for tag, attributes in reader.tags if tag == "circle"] == [
        "shown",
        "marked",
    ]
    assert "10: 2" in reader.words
    assert "<loss>" in reader.words


def test_charts_alone_are_one_svg_picture_side_by_side() -> None:
    curve = ((0, 4.0), (10, 2.0))
    charts = (
        Chart(title="<loss>", points=curve, control=curve, marked=10),
        Chart(title="score", points=curve),
    )
    picture = ElementTree.fromstring(render_charts(charts))
    space = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{space}svg"
    assert int(picture.attrib["width"]) == 2 * WIDTH
    classes = [line.attrib["class"] for line in picture.iter(f"{space}polyline")]
    assert classes == ["control", "curve", "curve"]
    assert [text.text for text in picture.iter(f"{space}text") if text.attrib.get("class")] == [
        "<loss>",
        "score",
    ]
