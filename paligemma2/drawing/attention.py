"""A picture of a prefix-LM mask: which token sees which, and where the loss is."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Tol's light colours: told apart by colour-blind readers, pale enough to carry dark letters.
ROLE_COLOURS: Mapping[str, str] = {
    "image": "#99ddff",
    "prefix": "#eedd88",
    "separator": "#bbcc33",
    "suffix": "#ee8866",
    "end": "#ffaabb",
    "padding": "#dddddd",
}
HIDDEN, GAP = "#ffffff", "#ffffff"
LOSS, NO_LOSS = "#cc3311", "#ffffff"
SMALLEST_CELL, LARGEST_CELL = 2, 14
_WANTED_SIDE = 420


def draw_attention(
    roles: Sequence[str], is_visible: NDArray[np.bool_], has_loss: NDArray[np.bool_]
) -> Image.Image:
    """A square for every pair of tokens, queries downwards and keys to the right.

    A square has the colour of the key's role where the query sees it and is white where it does not. The
    strips on top and at the left show the roles; the one at the right is red at every token with a loss.

    Args:
        roles: keys of `ROLE_COLOURS`, one for each token.
        is_visible: bool [tokens, tokens].
        has_loss: bool [tokens].
    """
    cell = min(max(_WANTED_SIDE // (len(roles) + 3), SMALLEST_CELL), LARGEST_CELL)
    colours = np.array([_rgb(ROLE_COLOURS[role]) for role in roles], dtype=np.uint8)
    seen = np.where(is_visible[:, :, None], colours[None], np.array(_rgb(HIDDEN), dtype=np.uint8))
    side = len(roles) + 3  # role, gap in front; loss behind
    squares = np.empty((side, side + 1, 3), dtype=np.uint8)
    squares[:] = _rgb(GAP)
    squares[0, 2 : 2 + len(roles)] = colours
    squares[2 : 2 + len(roles), 0] = colours
    squares[2 : 2 + len(roles), 2 : 2 + len(roles)] = seen
    squares[2 : 2 + len(roles), side] = np.where(has_loss[:, None], _rgb(LOSS), _rgb(NO_LOSS))
    return Image.fromarray(_with_lines(squares.repeat(cell, axis=0).repeat(cell, axis=1), cell))


def _with_lines(pixels: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """Thin pale lines between the squares where these are large enough."""
    if cell < 5:
        return pixels
    lined = pixels.copy()
    lined[::cell] = lined[::cell] // 2 + 120
    lined[:, ::cell] = lined[:, ::cell] // 2 + 120
    return lined


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
