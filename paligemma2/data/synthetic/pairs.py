"""Two scenes and the questions that need both."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.samples import Row
from paligemma2.data.synthetic.scenes import (
    Content,
    Objects,
    Scene,
    Theme,
    matching,
    random_contents,
    random_scene,
)
from paligemma2.data.synthetic.shapes import SHAPES

_SAME, _CHANGED = 0.42, 0.27
_OTHER_ROWS = 3


def random_pair(rng: random.Random, counts: tuple[int, int], theme: Theme) -> tuple[Scene, Scene]:
    """Two scenes: the same objects anew, or with one object changed, or unrelated ones.

    `counts` are the numbers of objects; the second one matters for unrelated scenes alone.
    """
    first = random_contents(rng, counts[0])
    kind = rng.random()
    if kind < _SAME:
        second = list(first)
    elif kind < _SAME + _CHANGED:
        second = _with_one_change(first, rng)
    else:
        second = random_contents(rng, counts[1])
    rng.shuffle(second)
    return random_scene(rng, first, theme), random_scene(rng, second, theme)


def _with_one_change(contents: Sequence[Content], rng: random.Random) -> list[Content]:
    changed = list(contents)
    place = rng.randrange(len(changed))
    old = changed[place]
    if rng.random() < 0.5:
        color = rng.choice([color for color in COLORS if color != old.color])
        changed[place] = Content(shape=old.shape, color=color)
    else:
        shape = rng.choice([shape for shape in SHAPES if shape != old.shape])
        changed[place] = Content(shape=shape, color=old.color)
    return changed


def same_objects(first: Objects, second: Objects) -> bool:
    """Whether both show the same shapes in the same colours, equally often."""
    return _contents(first) == _contents(second)


def _contents(objects: Objects) -> Counter[tuple[str, str]]:
    return Counter((item.color, item.shape) for item in objects)


def _row(kind: str, prefix: str, suffix: str) -> Row:
    return Row(task="pair", kind=kind, prefix=prefix, suffix=suffix)


def _same(first: Objects, second: Objects, rng: random.Random) -> Row | None:
    same = same_objects(first, second)
    # The same objects twice are rarer than all the rest, so a part of the rest is not asked about.
    if not same and rng.random() > _SAME / (1 - _SAME):
        return None
    return _row("pair_same", grammar.PAIR_SAME, "yes" if same else "no")


def _which_has(first: Objects, second: Objects, rng: random.Random) -> Row | None:
    one, two = set(_contents(first)), set(_contents(second))
    sides = [side for side in ((one - two, "first"), (two - one, "second")) if side[0]]
    if not sides:
        return None
    only_there, ordinal = rng.choice(sides)
    prefix = grammar.PAIR_WHICH_HAS.format(described=grammar.described(*rng.choice(sorted(only_there))))
    return _row("pair_which_has", prefix, ordinal)


def _more(first: Objects, second: Objects, rng: random.Random) -> Row | None:
    if len(first) == len(second):
        return None
    return _row("pair_more", grammar.PAIR_MORE, "first" if len(first) > len(second) else "second")


def _color(first: Objects, second: Objects, rng: random.Random) -> Row | None:
    side = rng.randrange(2)
    objects = (first, second)[side]
    single = [item for item in objects if len(matching(objects, shape=item.shape)) == 1]
    if not single:
        return None
    item = rng.choice(single)
    prefix = grammar.PAIR_COLOR.format(shape=item.shape, ordinal=grammar.ORDINALS[side])
    return _row("pair_color", prefix, item.color)


def _shape(first: Objects, second: Objects, rng: random.Random) -> Row | None:
    side = rng.randrange(2)
    objects = (first, second)[side]
    single = [item for item in objects if len(matching(objects, color=item.color)) == 1]
    if not single:
        return None
    item = rng.choice(single)
    prefix = grammar.PAIR_SHAPE.format(color=item.color, ordinal=grammar.ORDINALS[side])
    return _row("pair_shape", prefix, item.shape)


_Asker: TypeAlias = Callable[[Objects, Objects, random.Random], Row | None]
_OTHERS: tuple[tuple[_Asker, float], ...] = (
    (_which_has, 2.0),
    (_more, 4.0),
    (_color, 1.0),
    (_shape, 1.0),
)
"""The other questions, and how likely each is to come early; some are seldom possible."""


def pair_rows(first: Scene, second: Scene, rng: random.Random) -> tuple[Row, ...]:
    """One to four comparison questions about two scenes."""
    one, two = first.left_to_right, second.left_to_right
    tries = sorted(_OTHERS, key=lambda asker: rng.random() ** (1 / asker[1]), reverse=True)
    asked = [ask(one, two, rng) for ask, _ in tries]
    rows = [row for row in asked if row is not None][:_OTHER_ROWS]
    same = _same(one, two, rng)
    if same is None and not rows:
        same = _row("pair_same", grammar.PAIR_SAME, "yes" if same_objects(one, two) else "no")
    return tuple(rows if same is None else [same, *rows])
