"""Rows that ask where things are: detect rows with boxes, segment rows with outlines."""

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.samples import Row, Target
from paligemma2.data.synthetic.scenes import (
    MIN_X_DISTANCE,
    MIN_Y_DISTANCE,
    Content,
    Objects,
    SceneObject,
    absent_content,
    matching,
)
from paligemma2.processing.objects import objects_to_suffix
from paligemma2.types import Detection

_MOST_NAMES = 3
_ABSENT_TOO = 0.5
_SEGMENT_ROWS = 4
_MOST_MASKS = 2
MASK_SIZE = 64
_FINE = 4


def _label(shape: str | None, color: str | None) -> str:
    return " ".join(word for word in (color, shape or "object") if word)


def _named(objects: Objects, shape: str | None, color: str | None) -> list[tuple[SceneObject, str]]:
    return [(item, _label(shape, color)) for item in matching(objects, shape=shape, color=color)]


def _detect_row(kind: str, labels: Sequence[str], found: Sequence[tuple[SceneObject, str]]) -> Row:
    found = sorted(found, key=lambda pair: pair[0].center[0])
    prefix = grammar.DETECT.format(targets=" ; ".join(labels))
    suffix = objects_to_suffix([Detection(label=label, box=item.box) for item, label in found])
    return Row(task="detect", kind=kind, prefix=prefix, suffix=suffix)


def _detect_one(kind: str, objects: Objects, shape: str | None, color: str | None) -> Row:
    return _detect_row(kind, [_label(shape, color)], _named(objects, shape, color))


def _detect_several(objects: Objects, rng: random.Random) -> Row:
    """Two or three different names, with and without colour, none of which includes another.

    One of three may be the name of something that is not there.
    """
    contents = list(dict.fromkeys(Content(shape=item.shape, color=item.color) for item in objects))
    shapes = [content.shape for content in contents]
    labels: list[str] = []
    found: list[tuple[SceneObject, str]] = []
    for content in rng.sample(contents, min(len(contents), rng.randint(2, _MOST_NAMES))):
        is_alone = shapes.count(content.shape) == 1
        color = None if is_alone and rng.random() < 0.5 else content.color
        labels.append(_label(content.shape, color))
        found += _named(objects, content.shape, color)
    absent = absent_content(objects, rng)
    if len(labels) < _MOST_NAMES and absent.shape not in labels and rng.random() < _ABSENT_TOO:
        labels.insert(rng.randint(0, len(labels)), _label(absent.shape, absent.color))
    return _detect_row("detect_several", labels, found)


def detect_rows(objects: Objects, rng: random.Random) -> list[Row]:
    """One or two rows that ask for all instances of one to three names; answers go from left to right."""
    one = rng.choice(objects)
    rows = [
        _detect_one("detect_color", objects, None, one.color)
        if rng.random() < 0.2
        else _detect_one("detect_shape", objects, one.shape, None)
    ]
    if len({(item.shape, item.color) for item in objects}) > 1 and rng.random() < 0.6:
        rows.append(_detect_several(objects, rng))
    else:
        rows.append(_detect_one("detect_object", objects, one.shape, one.color))
    return rows if rng.random() < 0.6 else [rng.choice(rows)]


def outermost(objects: Objects, side: str) -> SceneObject | None:
    """The object farthest to a side ("left", "right", "top", "bottom"); None if it is too close to say."""
    axis, sign = (0 if side in ("left", "right") else 1), (1 if side in ("left", "top") else -1)
    first, second = sorted(objects, key=lambda item: sign * item.center[axis])[:2]
    distance = abs(first.center[axis] - second.center[axis])
    return first if distance >= (MIN_X_DISTANCE, MIN_Y_DISTANCE)[axis] else None


def _segment_row(kind: str, label: str, items: Objects) -> Row:
    return Row(
        task="segment",
        kind=kind,
        prefix=grammar.SEGMENT.format(thing=label),
        suffix=objects_to_suffix([Detection(label=label, box=item.box) for item in items]),
        targets=tuple(Target(label=label, box=item.box, outline=item.outline) for item in items),
    )


def _references(objects: Objects) -> list[Row]:
    """Every "the left red circle" that means one of several red circles, with all kinds of names."""
    rows = []
    names = [
        (shape, color) for item in objects for shape in (None, item.shape) for color in (None, item.color)
    ]
    for shape, color in dict.fromkeys(names):
        meant = matching(objects, shape=shape, color=color)
        for side in grammar.SIDES if len(meant) > 1 else ():
            item = outermost(meant, side)
            if item is not None:
                rows.append(_segment_row("refer", f"the {side} {_label(shape, color)}", [item]))
    return rows


def segment_rows(objects: Objects, rng: random.Random) -> list[Row]:
    """Up to four rows for the masks of an object, of a kind of object, and of one that a place tells apart.

    Args:
        objects: from left to right.
        rng: source of all choices.
    """
    one, other = rng.choice(objects), rng.choice(objects)
    rows = [
        _segment_row("segment_shape", other.shape, matching(objects, shape=other.shape)),
        _segment_row(
            "segment_object",
            _label(one.shape, one.color),
            matching(objects, shape=one.shape, color=one.color),
        ),
    ]
    rows = [row for row in rows if len(row.targets) <= _MOST_MASKS]  # three masks are a very long answer
    references = _references(objects)
    return rows + rng.sample(references, min(len(references), _SEGMENT_ROWS - len(rows)))


def target_mask(target: Target) -> npt.NDArray[np.uint8]:
    """The mask of a target inside its box, uint8 [64, 64], 0 to 255 with soft edges."""
    side = MASK_SIZE * _FINE
    box = target.box
    low = np.array([box.x_min, box.y_min])
    fine = _filled((target.outline - low) / (np.array([box.x_max, box.y_max]) - low), side)
    return np.asarray(fine.reduce(_FINE), dtype=np.uint8)


def picture_mask(target: Target, size: int) -> npt.NDArray[np.bool_]:
    """The mask of a target in the whole picture, bool [size, size]."""
    return np.asarray(_filled(target.outline, size), dtype=np.uint8) > 0


def _filled(outline: npt.NDArray[np.float64], side: int) -> Image.Image:
    """A square picture of one colour inside the outline, given in fractions of the side."""
    picture = Image.new("L", (side, side), 0)
    # Pillow counts from the middle of a pixel, fractions from its corner.
    ImageDraw.Draw(picture).polygon((outline * side - 0.5).ravel().tolist(), fill=255)
    return picture
