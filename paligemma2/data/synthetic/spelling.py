"""Rows that have nothing to do with the picture: say any text, so that every token is written by the model.

Without them a token that no picture needs keeps the weights it started with, and a later task that answers
with it learns it slowly.
"""

import random
import string

from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.samples import Row

_SIGNS = string.ascii_lowercase * 3 + string.ascii_uppercase + string.digits * 2 + ".-/$%:'éäñß"
_MOST_PIECES = 2


def _piece(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(grammar.VOCABULARY)
    return "".join(rng.choices(_SIGNS, k=rng.randint(1, 4)))


def say_row(rng: random.Random) -> Row:
    """One or two pieces, each a word of the world or some random signs."""
    text = " ".join(_piece(rng) for _ in range(rng.randint(1, _MOST_PIECES)))
    return Row(task="say", kind="say", prefix=grammar.SAY.format(text=text), suffix=text)
