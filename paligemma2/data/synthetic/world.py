"""The procedural world: pictures, questions and labels as pure functions of (split, index).

The same arguments give the same sample in every process. Two splits never share a scene, and words are split
by a hash of the word itself. Scenes need no font; words need the extra `pretrain`.
"""

import random

from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.grammar import VOCABULARY
from paligemma2.data.synthetic.labels import PatchLabels, scene_labels, word_labels
from paligemma2.data.synthetic.lettering import draw_lettering, random_lettering
from paligemma2.data.synthetic.pairs import pair_rows, random_pair
from paligemma2.data.synthetic.questions import scene_rows
from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.samples import Pixels, Row, Sample
from paligemma2.data.synthetic.scenes import MAX_OBJECTS, Scene, random_contents, random_scene, theme_of
from paligemma2.data.synthetic.seeds import SPLITS, random_for
from paligemma2.data.synthetic.targets import segment_rows
from paligemma2.errors import InputError

__all__ = [
    "MAX_OBJECTS",
    "SPLITS",
    "VOCABULARY",
    "PatchLabels",
    "Row",
    "Sample",
    "labelled_sample",
    "pair_sample",
    "scene_of",
    "scene_sample",
    "segment_sample",
    "word_sample",
]


def _random_count(rng: random.Random, max_objects: int) -> int:
    if not 1 <= max_objects <= MAX_OBJECTS:
        raise InputError(f"max_objects is {max_objects}", hint=f"use 1 to {MAX_OBJECTS}")
    weights = (0.28, 0.35, 0.37, 0.37)[:max_objects]
    return rng.choices(range(1, max_objects + 1), weights)[0]


def _checked(size: int) -> int:
    if size < 16:
        raise InputError(f"pictures of {size} px are too small to draw on", hint="use 84, 112 or more")
    return size


def _scene_and_rng(split: str, index: int, max_objects: int) -> tuple[Scene, random.Random]:
    rng = random_for("scene", split, index)
    contents = random_contents(rng, _random_count(rng, max_objects))
    return random_scene(rng, contents, theme_of(split)), rng


def scene_of(split: str, index: int, *, max_objects: int = 3) -> Scene:
    """The facts behind `scene_sample` of the same arguments."""
    return _scene_and_rng(split, index, max_objects)[0]


def scene_sample(split: str, index: int, *, size: int, max_objects: int = 3) -> Sample:
    """One scene: a caption, three questions of different kinds, one or two detect rows.

    Args:
        split: one of `SPLITS`.
        index: 0 or more; there is no last one.
        size: side of the picture in pixels; the scene itself does not depend on it.
        max_objects: 1 to `MAX_OBJECTS`.

    Raises:
        InputError: an argument is out of its range.
    """
    scene, rng = _scene_and_rng(split, index, max_objects)
    return Sample(images=(draw_scene(scene, _checked(size)),), rows=scene_rows(scene, rng))


def segment_sample(split: str, index: int, *, size: int, max_objects: int = 3) -> Sample:
    """One scene and up to four segment rows; their suffixes have no mask tokens yet, see `Row.targets`.

    Raises:
        InputError: an argument is out of its range.
    """
    rng = random_for("segment", split, index)
    scene = random_scene(rng, random_contents(rng, _random_count(rng, max_objects)), theme_of(split))
    rows = segment_rows(scene.left_to_right, rng)
    return Sample(images=(draw_scene(scene, _checked(size)),), rows=tuple(rows))


def word_sample(split: str, index: int, *, size: int) -> Sample:
    """A picture of one word of 3 to 6 capitals, and the row that asks for it.

    Raises:
        InputError: an argument is out of its range.
        MissingExtra: the typefaces are not installed.
    """
    lettering = random_lettering(random_for("word", split, index), split)
    row = Row(task="ocr", kind="ocr", prefix=grammar.OCR, suffix=lettering.word)
    return Sample(images=(draw_lettering(lettering, _checked(size)),), rows=(row,))


def pair_sample(split: str, index: int, *, size: int, max_objects: int = 3) -> Sample:
    """Two scenes and one to three questions that compare them or point into one of them.

    Raises:
        InputError: an argument is out of its range.
    """
    rng = random_for("pair", split, index)
    counts = _random_count(rng, max_objects), _random_count(rng, max_objects)
    pair = random_pair(rng, counts, theme_of(split))
    images = tuple(draw_scene(scene, _checked(size)) for scene in pair)
    return Sample(images=images, rows=pair_rows(*pair, rng))


def labelled_sample(
    split: str, index: int, *, size: int, patch_size: int, max_objects: int = 3
) -> tuple[Pixels, PatchLabels]:
    """A picture, uint8 [size, size, 3], and what each of its patches shows; half are scenes, half words.

    Raises:
        InputError: an argument is out of its range, or `patch_size` does not divide `size`.
        MissingExtra: the typefaces are not installed.
    """
    rng = random_for("labelled", split, index)
    if rng.random() < 0.5:
        contents = random_contents(rng, _random_count(rng, max_objects))
        scene = random_scene(rng, contents, theme_of(split))
        return draw_scene(scene, _checked(size)), scene_labels(scene, size, patch_size)
    lettering = random_lettering(rng, split)
    return draw_lettering(lettering, _checked(size)), word_labels(lettering, size, patch_size)
