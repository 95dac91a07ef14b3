import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from paligemma2.drawing.boxes import draw_detections, enlarged
from paligemma2.drawing.colours import PALETTE
from paligemma2.types import Box, Detection

WHOLE = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
MIDDLE = Box(y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.75)
FIRST_COLOUR, SECOND_COLOUR = (ImageColor.getrgb(colour) for colour in PALETTE[:2])
GREY = ImageColor.getrgb("grey")


def drawn(size: tuple[int, int], *found: Detection) -> np.ndarray:
    return np.asarray(draw_detections(Image.new("RGB", size, "grey"), found))


def has_colour(pixels: np.ndarray, colour: tuple[int, ...]) -> bool:
    return bool((pixels == colour).all(-1).any())


def test_the_given_picture_is_not_changed() -> None:
    image = Image.new("RGB", (60, 40), "grey")
    draw_detections(image, [Detection(label="cat", box=WHOLE)])
    assert image.tobytes() == Image.new("RGB", (60, 40), "grey").tobytes()


def test_without_objects_the_copy_is_equal() -> None:
    assert (drawn((50, 30)) == np.asarray(Image.new("RGB", (50, 30), "grey"))).all()


def test_the_line_lies_on_the_box() -> None:
    pixels = drawn((400, 200), Detection(label="", box=MIDDLE))
    for y, x in [(50, 200), (150, 200), (100, 100), (100, 300)]:
        assert tuple(pixels[y, x]) == FIRST_COLOUR
    assert tuple(pixels[100, 200]) == GREY


def test_a_tag_stands_above_the_box() -> None:
    pixels = drawn((400, 200), Detection(label="cat", box=MIDDLE))
    assert has_colour(pixels[30:48], FIRST_COLOUR)
    assert not has_colour(pixels[60:140, 110:290], FIRST_COLOUR)


def test_tags_of_equal_boxes_do_not_hide_each_other() -> None:
    two = [Detection(label="cat", box=MIDDLE), Detection(label="dog", box=MIDDLE)]
    pixels = drawn((400, 200), *two)
    colours = [ImageColor.getrgb(colour) for colour in PALETTE[:2]]
    areas = [int((pixels == colour).all(-1).sum()) for colour in colours]
    assert min(areas) > 100  # the second box hides the first one's line, but not its tag


def test_one_label_has_one_colour() -> None:
    boxes = [Box(y_min=0.0, x_min=0.0, y_max=0.4, x_max=0.4), Box(y_min=0.6, x_min=0.6, y_max=1.0, x_max=1.0)]
    pixels = drawn((100, 100), *(Detection(label="cat", box=box) for box in boxes))
    assert tuple(pixels[40, 20]) == tuple(pixels[80, 60]) == FIRST_COLOUR


def test_lines_and_letters_grow_with_the_picture() -> None:
    def share(side: int) -> float:
        pixels = drawn((side, side), Detection(label="cat", box=MIDDLE))
        return float((pixels == FIRST_COLOUR).all(-1).mean())

    assert 0.5 < share(900) / share(450) < 2


def test_the_score_widens_the_tag() -> None:
    plain = drawn((400, 200), Detection(label="cat", box=MIDDLE))
    scored = drawn((400, 200), Detection(label="cat", box=MIDDLE, score=0.873))
    assert (plain != scored).any()


def disc(height: int, width: int, radius: float = 0.2, hole: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5)
    return (distance < radius) & (distance >= hole)


def test_a_mask_is_seen_through_and_has_a_rim() -> None:
    mask = disc(400, 400)
    pixels = drawn((400, 400), Detection(label="", box=MIDDLE, mask=mask))
    inside = tuple(int(value) for value in pixels[200, 200])
    mixed = [grey + (105 / 255) * (colour - grey) for grey, colour in zip(GREY, FIRST_COLOUR, strict=True)]
    assert inside == pytest.approx(mixed, abs=1)
    row = (pixels[200] == FIRST_COLOUR).all(-1)
    left = int(np.flatnonzero(mask[200])[0])
    assert row[left : left + 4].any()
    assert tuple(pixels[200, left - 8]) == GREY


def test_what_lies_outside_of_a_mask_and_in_its_hole_stays() -> None:
    mask = disc(400, 400, hole=0.1)
    far = disc(400, 400, radius=0.4)
    pixels = drawn((400, 400), Detection(label="", box=Box(y_min=0, x_min=0, y_max=1, x_max=1), mask=mask))
    assert (pixels[far & ~mask] == GREY).all()
    assert (pixels[mask] != GREY).any(-1).all()


def test_a_mask_of_another_size_is_stretched() -> None:
    small = drawn((400, 200), Detection(label="", box=MIDDLE, mask=disc(100, 50)))
    full = drawn((400, 200), Detection(label="", box=MIDDLE, mask=disc(200, 400)))
    assert (small != full).any(-1).mean() < 0.03


def test_an_empty_mask_draws_the_box_alone() -> None:
    alone = drawn((90, 90), Detection(label="cat", box=MIDDLE))
    with_mask = drawn((90, 90), Detection(label="cat", box=MIDDLE, mask=np.zeros((90, 90), dtype=bool)))
    assert (alone == with_mask).all()


def test_small_objects_lie_on_large_ones() -> None:
    small = Detection(label="", box=MIDDLE)
    large = Detection(label="x", box=Box(y_min=0.25, x_min=0.1, y_max=0.9, x_max=0.9), mask=disc(400, 400))
    for order in ([small, large], [large, small]):
        pixels = drawn((400, 400), *order)
        colour = FIRST_COLOUR if order[0] is small else SECOND_COLOUR
        assert tuple(pixels[101, 200]) == colour


def test_given_labels_have_the_first_colours() -> None:
    image = Image.new("RGB", (100, 100), "grey")
    picture = draw_detections(image, [Detection(label="cat", box=MIDDLE)], labels=["dog", "cat"])
    assert has_colour(np.asarray(picture), SECOND_COLOUR)
    assert not has_colour(np.asarray(picture), FIRST_COLOUR)


def test_the_same_objects_give_the_same_picture() -> None:
    found = [Detection(label=f"{i % 3}", box=MIDDLE, mask=disc(90, 120), score=i / 9) for i in range(9)]
    assert (drawn((120, 90), *found) == drawn((120, 90), *found)).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((56, 56), (336, 336)), ((40, 20), (320, 160)), ((319, 100), (638, 200)), ((320, 5), (320, 5))],
)
def test_small_pictures_are_enlarged_a_whole_number_of_times(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.effect_noise(size, 50)
    large = enlarged(image)
    assert large.size == expected
    assert large.resize(size, Image.Resampling.NEAREST).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (9, 7), (40, 3000)])
def test_the_smallest_and_the_thinnest_pictures_work(size: tuple[int, int]) -> None:
    assert drawn(size, Detection(label="a long label", box=WHOLE)).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = draw_detections(Image.new(mode, (30, 20)), [Detection(label="cat", box=MIDDLE)])
    assert (picture.mode, picture.size) == ("RGB", (30, 20))


def test_transparent_pixels_become_white() -> None:
    picture = draw_detections(Image.new("RGBA", (3, 3), (255, 0, 0, 0)), [])
    assert picture.getpixel((1, 1)) == (255, 255, 255)


def test_a_turned_photograph_is_drawn_upright() -> None:
    image = Image.new("RGB", (40, 20), "grey")
    image.getexif()[0x0112] = 6  # "rotate by 90 degrees to see it"
    assert draw_detections(image, []).size == (20, 40)


@settings(max_examples=150, deadline=None)
@given(
    label=st.text(st.characters(exclude_categories=()), max_size=40),
    corners=st.tuples(*[st.floats(-2, 3)] * 4),
    score=st.none() | st.floats(0, 1),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
)
def test_any_label_and_any_box_can_be_drawn(
    label: str, corners: tuple[float, ...], score: float | None, size: tuple[int, int]
) -> None:
    box = Box(y_min=corners[0], x_min=corners[1], y_max=corners[2], x_max=corners[3])
    found = Detection(label=label, box=box, score=score, mask=disc(size[1], size[0], radius=0.6, hole=0.2))
    assert drawn(size, found).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("label", ["кошка", "猫", "قطة", "👩‍👩‍👧", "a\nb\tc\0d", "\ud800", "w" * 100_000])
def test_labels_in_any_script_and_length(label: str) -> None:
    assert drawn((200, 100), Detection(label=label, box=MIDDLE)).shape == (100, 200, 3)
