import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paligemma2.drawing.sheet import MAX_TILES, THUMBNAIL_SIDE, Tile, draw_sheet, thumbnail
from paligemma2.errors import InputError
from paligemma2.types import Box, Detection

CAT = Detection(label="cat", box=Box(y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.75), score=0.5)
COLOURS = ("#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff")


def plain(colour: str, size: tuple[int, int] = (320, 200)) -> Tile:
    return Tile(image=Image.new("RGB", size, colour))


def place(sheet: np.ndarray, colour: str) -> tuple[slice, slice]:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    rows, columns = np.nonzero((sheet == rgb).all(-1))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def test_pictures_stand_in_rows_in_order_and_whole() -> None:
    sheet = np.asarray(draw_sheet([plain(colour) for colour in COLOURS]))
    places = [place(sheet, colour) for colour in COLOURS]
    assert all(
        (rows.stop - rows.start, columns.stop - columns.start) == (200, 320) for rows, columns in places
    )
    order = [(rows.start, columns.start) for rows, columns in places]
    assert order == sorted(order)
    assert len({row for row, _ in order}) == 2
    assert len({column for _, column in order}) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
def test_a_sheet_is_about_as_wide_as_high(count: int) -> None:
    sheet = draw_sheet([plain("#ff0000", (10, 10))] * count)
    assert 0.5 < sheet.width / sheet.height < 2


def test_words_stand_below_the_picture_and_change_with_it() -> None:
    def sheet(title: str, text: str) -> np.ndarray:
        return np.asarray(draw_sheet([Tile(image=Image.new("RGB", (320, 320)), title=title, text=text)]))

    empty, titled, both = sheet("", ""), sheet("a.png", ""), sheet("a.png", "a red circle")
    title_rows = np.nonzero((empty != titled).any(-1))[0]
    text_rows = np.nonzero((titled != both).any(-1))[0]
    assert 336 < title_rows.min() < title_rows.max() < text_rows.min() < text_rows.max() < empty.shape[0] - 16


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=400), st.booleans())
def test_any_words_stay_in_their_tile(text: str, is_blank: bool) -> None:
    image = None if is_blank else Image.new("RGB", (30, 320), "#ff0000")
    with_words = np.asarray(draw_sheet([Tile(image=image, title=text, text=text), plain("#00ff00")]))
    without = np.asarray(draw_sheet([Tile(image=image), plain("#00ff00")]))
    columns = np.nonzero((with_words != without).any(-1))[1]
    assert columns.size == 0 or (columns.min() >= 16 and columns.max() < 16 + 340)


def test_a_long_text_has_three_lines_and_an_ellipsis() -> None:
    short = draw_sheet([Tile(image=None, text="word " * 200)])
    assert short.tobytes() == draw_sheet([Tile(image=None, text="word " * 300)]).tobytes()
    assert short.tobytes() != draw_sheet([Tile(image=None, text="word " * 10)]).tobytes()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((56, 56), (280, 280)), ((640, 480), (320, 240)), ((3000, 10), (320, 1)), ((1, 1), (320, 320))],
)
def test_thumbnails_fit_and_small_pictures_grow(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert thumbnail(Image.new("RGB", size), []).size == expected


def test_objects_are_drawn_in_the_size_of_the_thumbnail() -> None:
    sides = (640, 2560)
    small, large = (np.asarray(thumbnail(Image.new("RGB", (s, s), "grey"), [CAT])) for s in sides)
    assert small.shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    assert (small == large).all()
    assert (small != 128).any()


def test_a_turned_photograph_is_upright() -> None:
    image = Image.new("RGB", (640, 320))
    image.getexif()[0x0112] = 6
    assert thumbnail(image, []).size == (160, 320)


@pytest.mark.parametrize("count", [0, MAX_TILES + 1])
def test_no_picture_and_too_many_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} pictures on one sheet"):
        draw_sheet([Tile(image=None)] * count)
