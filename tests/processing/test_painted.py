import numpy as np
import pytest
from PIL import Image

from paligemma2.processing.image import open_image
from paligemma2.processing.painted import draw_outline
from paligemma2.types import Box, EditedPicture, Label


def encoded(tmp_path, image):
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_turns_go_counter_clockwise(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = encoded(tmp_path, Image.fromarray(pixels))
    for turns in range(5):
        turned = np.asarray(open_image(EditedPicture(source=path, quarter_turns=turns)))
        assert (turned == np.rot90(pixels, turns)).all()


def test_a_label_is_black_on_white_inside_of_its_corners(tmp_path):
    path = encoded(tmp_path, Image.new("RGB", (60, 40), "red"))
    label = Label(left=10, top=5, right=40, bottom=30, text="B")
    pixels = np.asarray(open_image(EditedPicture(source=path, labels=(label,))))
    is_red = (pixels == (255, 0, 0)).all(axis=2)
    expected = np.ones((40, 60), dtype=bool)
    expected[5:31, 10:41] = False
    assert (is_red == expected).all()
    black = np.argwhere(pixels.sum(axis=2) < 100)
    assert len(black) > 20
    height, width = black.max(axis=0) - black.min(axis=0) + 1
    assert 12 <= height <= 26  # as large as fits
    assert width <= 31
    left = black[:, 1].min() - 10
    right = 40 - black[:, 1].max()
    assert abs(left - right) <= 6  # in the middle


def test_a_label_without_text_is_a_white_rectangle(tmp_path):
    path = encoded(tmp_path, Image.new("RGB", (20, 20)))
    label = Label(left=12, top=9, right=2, bottom=3, text="")
    pixels = np.asarray(open_image(EditedPicture(source=path, labels=(label,))))
    assert (pixels[3:10, 2:13] == 255).all()
    assert pixels.sum() == 7 * 11 * 3 * 255


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        (Box(y_min=0.1, x_min=0.2, y_max=0.5, x_max=0.9), (1, 5), (2, 9)),
        (Box(y_min=-0.5, x_min=0.2, y_max=0.5, x_max=2.0), (None, 5), (2, None)),
    ],
)
def test_an_outline_is_one_pixel_wide(box, rows, columns):
    pixels = np.zeros((3, 11, 11), dtype=np.float32)
    painted = draw_outline(pixels, box)
    assert not pixels.any()
    is_red = (painted == np.array([1, -1, -1])[:, None, None]).all(axis=0)
    expected = np.zeros((11, 11), dtype=bool)
    first, last = rows[0] or 0, 10 if rows[1] is None else rows[1]
    left, right = columns[0] or 0, 10 if columns[1] is None else columns[1]
    for y in rows:
        if y is not None:
            expected[y, left : right + 1] = True
    for x in columns:
        if x is not None:
            expected[first : last + 1, x] = True
    assert (is_red == expected).all()


def test_a_box_the_wrong_way_round_or_outside_draws_nothing():
    pixels = np.zeros((3, 11, 11), dtype=np.float32)
    for box in (
        Box(y_min=0.5, x_min=0.1, y_max=0.2, x_max=0.9),
        Box(y_min=2, x_min=2, y_max=3, x_max=3),
        Box(y_min=-3, x_min=-3, y_max=-2, x_max=-2),
    ):
        assert not draw_outline(pixels, box).any()
