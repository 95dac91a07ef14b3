import numpy as np
import pytest
from PIL import Image, ImageColor

from paligemma2.drawing.attention import LARGEST_CELL, LOSS, ROLE_COLOURS, SMALLEST_CELL, draw_attention

ROLES = ("image", "image", "prefix", "separator", "suffix", "end")
SEES = np.tril(np.ones((6, 6), dtype=bool))
LOSSES = np.array([False] * 4 + [True] * 2)


def middle(picture: Image.Image, row: int, column: int) -> tuple[int, ...]:
    """The colour of a square; the strip of roles is -2, that of the loss behind the last token."""
    cell = LARGEST_CELL
    return picture.getpixel(((column + 2) * cell + cell // 2, (row + 2) * cell + cell // 2))


def test_a_square_has_the_colour_of_the_key_where_it_is_seen() -> None:
    picture = draw_attention(ROLES, SEES, LOSSES)
    for i in range(6):
        for j in range(6):
            expected = ROLE_COLOURS[ROLES[j]] if SEES[i, j] else "white"
            assert middle(picture, i, j) == ImageColor.getrgb(expected)


def test_the_strips_show_roles_and_loss() -> None:
    picture = draw_attention(ROLES, SEES, LOSSES)
    for i, role in enumerate(ROLES):
        assert middle(picture, i, -2) == middle(picture, -2, i) == ImageColor.getrgb(ROLE_COLOURS[role])
        assert middle(picture, i, 7) == ImageColor.getrgb(LOSS if LOSSES[i] else "white")


@pytest.mark.parametrize("count", [1, 30, 120, 400])
def test_the_picture_keeps_a_readable_size(count: int) -> None:
    picture = draw_attention(
        ("image",) * count, np.ones((count, count), dtype=bool), np.zeros(count, dtype=bool)
    )
    assert picture.width >= count * SMALLEST_CELL
    assert max(picture.size) <= 900


def test_every_role_has_its_own_colour() -> None:
    assert len(set(ROLE_COLOURS.values())) == len(ROLE_COLOURS) == 6
