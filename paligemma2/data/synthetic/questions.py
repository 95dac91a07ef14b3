"""Rows about one scene. Every question has exactly one right answer, or it is not asked."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.samples import Row
from paligemma2.data.synthetic.scenes import (
    MIN_X_DISTANCE,
    MIN_Y_DISTANCE,
    Objects,
    Scene,
    SceneObject,
    absent_content,
    matching,
)
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.targets import detect_rows

CELL_MARGIN = 0.04
_VQA_ROWS = 3
_COUNT_WEIGHTS = {0: 0.8, 1: 1.0, 2: 3.0, 3: 7.0, 4: 7.0}


def place_of(item: SceneObject) -> str | None:
    """The name of the cell of a 3 × 3 grid that the middle lies in; None too near to a line."""
    cells = []
    for value in item.center:
        if min(abs(value - 1 / 3), abs(value - 2 / 3)) < CELL_MARGIN:
            return None
        cells.append(int(value * 3))
    column, row = cells
    return grammar.PLACES[row][column]


def stands(item: SceneObject, relation: str, other: SceneObject) -> bool | None:
    """Whether `item` is in this relation to `other`; None where it is too close to say."""
    axis = 0 if relation in ("left of", "right of") else 1
    distance = other.center[axis] - item.center[axis]
    if relation in ("right of", "below"):
        distance = -distance
    if abs(distance) < (MIN_X_DISTANCE, MIN_Y_DISTANCE)[axis]:
        return None
    return distance > 0


def _name_of(item: SceneObject, objects: Objects, rng: random.Random) -> str | None:
    """Words that mean this object alone: "circle", "red object" or "red circle"; None if there are none."""
    names = []
    if len(matching(objects, shape=item.shape)) == 1:
        names += [item.shape, item.shape]
    if len(matching(objects, color=item.color)) == 1:
        names.append(f"{item.color} object")
    if not names and len(matching(objects, shape=item.shape, color=item.color)) == 1:
        names.append(f"{item.color} {item.shape}")
    return rng.choice(names) if names else None


def _row(kind: str, prefix: str, suffix: str) -> Row:
    return Row(task="vqa", kind=kind, prefix=prefix, suffix=suffix)


def _color(objects: Objects, rng: random.Random) -> Row | None:
    single = [item for item in objects if len(matching(objects, shape=item.shape)) == 1]
    if not single:
        return None
    item = rng.choice(single)
    return _row("color", grammar.COLOR_OF.format(thing=item.shape), item.color)


def _shape(objects: Objects, rng: random.Random) -> Row | None:
    single = [item for item in objects if len(matching(objects, color=item.color)) == 1]
    if not single:
        return None
    item = rng.choice(single)
    return _row("shape", rng.choice(grammar.SHAPE_OF_COLOR).format(color=item.color), item.shape)


def _count_all(objects: Objects, rng: random.Random) -> Row:
    return _row("count_all", grammar.COUNT_ALL, str(len(objects)))


def _counted(names: Sequence[str], present: Sequence[str], rng: random.Random) -> tuple[str, int]:
    """A name to count and its number; the rarer large numbers are asked for first."""
    numbers = {name: present.count(name) for name in names}
    possible = sorted(set(numbers.values()))
    wanted = rng.choices(possible, [_COUNT_WEIGHTS[number] for number in possible])[0]
    return rng.choice([name for name in names if numbers[name] == wanted]), wanted


def _count_shape(objects: Objects, rng: random.Random) -> Row:
    shape, number = _counted(SHAPES, [item.shape for item in objects], rng)
    return _row("count_shape", grammar.COUNT_SHAPE.format(plural=grammar.plural(shape)), str(number))


def _count_color(objects: Objects, rng: random.Random) -> Row:
    color, number = _counted(COLORS, [item.color for item in objects], rng)
    return _row("count_color", grammar.COUNT_COLOR.format(color=color), str(number))


def _where(objects: Objects, rng: random.Random) -> Row | None:
    named = [(place_of(item), _name_of(item, objects, rng)) for item in objects]
    possible = [(place, name) for place, name in named if place and name]
    if not possible:
        return None
    place, name = rng.choice(possible)
    return _row("where", grammar.WHERE.format(thing=name), place)


def _relation(objects: Objects, rng: random.Random) -> Row | None:
    possible = []
    for item, other in itertools.permutations(objects, 2):
        name, other_name = _name_of(item, objects, rng), _name_of(other, objects, rng)
        for relation in grammar.RELATIONS:
            answer = stands(item, relation, other)
            if name and other_name and answer is not None:
                prefix = grammar.RELATION.format(thing=name, relation=relation, other=other_name)
                possible.append(_row("relation", prefix, "yes" if answer else "no"))
    return rng.choice(possible) if possible else None


def _what_relation(objects: Objects, rng: random.Random) -> Row | None:
    possible = []
    for other, relation in itertools.product(objects, grammar.RELATIONS):
        name = _name_of(other, objects, rng)
        answers = {item: stands(item, relation, other) for item in objects if item is not other}
        there = [item for item, answer in answers.items() if answer]
        if name and len(there) == 1 and None not in answers.values():
            prefix = grammar.WHAT_RELATION.format(relation=relation, other=name)
            possible.append(_row("what_relation", prefix, f"{there[0].color} {there[0].shape}"))
    return rng.choice(possible) if possible else None


def _exists(objects: Objects, rng: random.Random) -> Row:
    is_there = rng.random() < 0.5
    item = rng.choice(objects) if is_there else absent_content(objects, rng)
    prefix = grammar.EXISTS.format(described=grammar.described(item.color, item.shape))
    return _row("exists", prefix, "yes" if is_there else "no")


_Asker: TypeAlias = Callable[[Objects, random.Random], Row | None]
_ASKERS: Mapping[str, tuple[_Asker, float]] = {
    "color": (_color, 1.3),
    "shape": (_shape, 1.3),
    "count_all": (_count_all, 0.6),
    "count_shape": (_count_shape, 0.9),
    "count_color": (_count_color, 0.9),
    "where": (_where, 1.3),
    "relation": (_relation, 1.4),
    "what_relation": (_what_relation, 1.4),
    "exists": (_exists, 1.0),
}
"""What can be asked, and how likely it is to come early among the kinds tried for one scene."""


def _vqa_rows(objects: Objects, rng: random.Random) -> list[Row]:
    rows: list[Row] = []
    tries = sorted(_ASKERS.values(), key=lambda asker: rng.random() ** (1 / asker[1]), reverse=True)
    for ask, _ in tries:
        row = ask(objects, rng)
        if row is not None:
            rows.append(row)
        if len(rows) == _VQA_ROWS:
            break
    return rows


def scene_rows(scene: Scene, rng: random.Random) -> tuple[Row, ...]:
    """A caption, three questions of different kinds and one or two detect rows."""
    objects = scene.left_to_right
    caption = Row(task="caption", kind="caption", prefix=grammar.CAPTION, suffix=grammar.caption_of(objects))
    return (caption, *_vqa_rows(objects, rng), *detect_rows(objects, rng))
