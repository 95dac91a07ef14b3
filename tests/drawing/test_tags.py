import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw, ImageFont

from paligemma2.drawing.colours import label_colours
from paligemma2.drawing.tags import Rectangle, draw_tags, line_height, on_one_line, shortened, tag_text
from paligemma2.types import Box, Detection

WHOLE = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
FONT = ImageFont.load_default(16)


def tags(size: tuple[int, int], frames: list[Rectangle], label: str = "thing") -> dict[str, np.ndarray]:
    """For each of some labelled frames, where its tag's colour is: bool [height, width]."""
    picture = Image.new("RGB", size, "grey")
    detections = [Detection(label=f"{label} {i}", box=WHOLE) for i in range(len(frames))]
    colours = label_colours(detection.label for detection in detections)
    draw_tags(ImageDraw.Draw(picture), detections, frames, colours)
    pixels = np.asarray(picture)
    return {name: (pixels == ImageColor.getrgb(colour)).all(-1) for name, colour in colours.items()}


def test_the_tag_has_label_and_score() -> None:
    assert tag_text(Detection(label="cat", box=WHOLE, score=0.871)) == "cat 0.87"
    assert tag_text(Detection(label="person's\nhat", box=WHOLE)) == "person's hat"
    assert tag_text(Detection(label="", box=WHOLE, score=1.0)) == "1.00"


def test_tags_of_twenty_equal_boxes_do_not_hide_each_other() -> None:
    found = tags((600, 600), [(150, 150, 450, 450)] * 20)
    areas = [area.sum() for area in found.values()]
    assert min(areas) > 0.75 * max(areas)  # all are about as long


def spans(found: dict[str, np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    return [np.nonzero(area) for area in found.values()]


def test_a_tag_stands_above_its_box_and_inside_where_there_is_no_room() -> None:
    ((above, _),) = spans(tags((300, 300), [(50, 100, 250, 200)]))
    assert above.max() == 99
    ((inside, _),) = spans(tags((300, 300), [(50, 0, 250, 200)]))
    assert inside.min() == 0


def test_more_tags_have_smaller_letters() -> None:
    one = tags((600, 600), [(150, 150, 450, 450)])["thing 0"].sum()
    many = tags((600, 600), [(150, 150, 450, 450)] * 40)["thing 0"].sum()
    assert many < 0.7 * one


def test_a_picture_that_is_too_small_has_no_tag() -> None:
    assert not tags((20, 20), [(2, 2, 18, 18)])["thing 0"].any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 149)] * 4), max_size=6),
    st.text(st.characters(exclude_categories=()), max_size=30),
)
def test_any_frames_and_labels_have_tags(corners: list[tuple[int, ...]], label: str) -> None:
    frames = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    found = tags((150, 150), frames, label)
    assert all(area.any() for area in list(found.values())[:1])


@given(st.text(max_size=60), st.floats(0, 300))
def test_a_shortened_text_fits_and_is_a_beginning(text: str, width: float) -> None:
    text = on_one_line(text)
    cut = shortened(text, FONT, width)
    assert FONT.getlength(cut) <= width
    assert text.startswith(cut.removesuffix("…"))


@pytest.mark.parametrize("text", ["a\nb\tc", "a\0b c", "  a   b c "])
def test_one_line_has_single_spaces(text: str) -> None:
    assert on_one_line(text) == "a b c"


def test_letters_fit_into_a_line() -> None:
    assert line_height(FONT) >= 16
