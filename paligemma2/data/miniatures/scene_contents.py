"""Contents made of drawn scenes: questions, captions, objects, pairs and videos."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from paligemma2.data.miniatures.content import SIDE, Asked, Content
from paligemma2.data.miniatures.words import COLOR_QUESTIONS, MORE_ON_THE_LEFT, NAMES
from paligemma2.data.synthetic import grammar
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.questions import scene_rows
from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.samples import Row, Target
from paligemma2.data.synthetic.scenes import (
    TRAINING_THEME,
    Scene,
    SceneObject,
    random_contents,
    random_scene,
)
from paligemma2.data.synthetic.scenes import Content as Thing
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.targets import segment_rows

_MOST = 3
_QUESTION = "answer en "
_SEGMENT = "segment "
_QUESTIONS = ("color", "shape", "where", "what_relation")
_COUNTS = ("count_all", "count_color", "count_shape")
_WITH_CHOICES = ("color", "shape", "where")
_CHOICES = 4
_FRAMES = 20
_STEP = 0.004
"""How far the objects of a video move from frame to frame, as a fraction of the side."""


def question(rng: random.Random, number: int) -> Content:
    """Colours, shapes, places and neighbours."""
    return _asking(rng, number, _QUESTIONS)


def yes_no(rng: random.Random, number: int) -> Content:
    """Whether something is there; as often yes as no."""
    wanted = "yes" if number % 2 else "no"
    return _asking(rng, number, ("exists",), answer=wanted)


def count(rng: random.Random, number: int) -> Content:
    """How many; "simple" where all objects or those of one shape are counted, as TallyQA has it."""
    return _asking(rng, number, _COUNTS)


def choice(rng: random.Random, number: int) -> Content:
    """A question with four answers to choose from."""
    content = _asking(rng, number, _WITH_CHOICES)
    return replace(content, asked=tuple(_with_choices(each, rng) for each in content.asked))


def question_languages(rng: random.Random, number: int) -> Content:
    """The colour of the only object, asked in the languages of xGQA."""
    scene = _scene(rng, random_contents(rng, 1))
    asked = Asked(
        question=COLOR_QUESTIONS["en"],
        answer=scene.objects[0].color,
        kind="color",
        translations=COLOR_QUESTIONS,
    )
    return Content(number=number, pictures=(draw_scene(scene, SIDE),), asked=(asked,))


def caption(rng: random.Random, number: int) -> Content:
    """All objects from left to right, and what each of them is called."""
    scene = _scene(rng, random_contents(rng, rng.randint(1, _MOST)))
    return _described(scene, number)


def caption_languages(rng: random.Random, number: int) -> Content:
    """The name of the only object in 36 languages."""
    place = rng.randrange(3)
    thing = Thing(shape=NAMES["en"][place], color=rng.choice(COLORS))
    scene = _scene(rng, [thing])
    captions = {language: (names[place],) for language, names in NAMES.items()}
    return Content(number=number, pictures=(draw_scene(scene, SIDE),), captions=captions)


def pair(rng: random.Random, number: int) -> Content:
    """Two pictures, and whether the left one has more objects; as often true as false."""
    few = rng.randint(1, _MOST - 1)
    many = rng.randint(few + 1, _MOST)
    is_true = number % 2 == 1
    counts = (many, few) if is_true else (few, many)
    scenes = [_scene(rng, random_contents(rng, each)) for each in counts]
    asked = Asked(
        question=MORE_ON_THE_LEFT["en"],
        answer=str(is_true),
        kind="pair_more",
        translations=MORE_ON_THE_LEFT,
    )
    return Content(number=number, pictures=tuple(draw_scene(scene, SIDE) for scene in scenes), asked=(asked,))


def refer(rng: random.Random, number: int) -> Content:
    """Objects that words tell apart from all others, with their boxes and outlines."""
    while True:
        scene = _scene(rng, random_contents(rng, rng.randint(1, _MOST)))
        rows = segment_rows(scene.left_to_right, rng)
        single = [row for row in rows if len(row.targets) == 1]
        if single:
            break
    objects = tuple(replace(row.targets[0], label=row.prefix.removeprefix(_SEGMENT)) for row in single)
    return Content(number=number, pictures=(draw_scene(scene, SIDE),), objects=objects)


def video_caption(rng: random.Random, number: int) -> Content:
    """A video in which the objects of a scene drift, and their names."""
    scene = _scene(rng, random_contents(rng, rng.randint(1, 2)))
    frames = tuple(draw_scene(each, SIDE) for each in _drifting(scene, rng))
    return replace(_described(scene, number), pictures=frames)


def video_question(rng: random.Random, number: int) -> Content:
    """A video in which the objects of a scene drift, and a question on colour or shape."""
    scene, rows = _scene_with(rng, ("color", "shape"))
    frames = tuple(draw_scene(each, SIDE) for each in _drifting(scene, rng))
    return Content(number=number, pictures=frames, asked=tuple(_asked(row) for row in rows))


def _scene(rng: random.Random, contents: Sequence[Thing]) -> Scene:
    return random_scene(rng, contents, TRAINING_THEME)


def _scene_with(
    rng: random.Random, kinds: Sequence[str], answer: str | None = None
) -> tuple[Scene, list[Row]]:
    """A scene, and the questions of these kinds that can be asked about it; at least one."""
    while True:
        scene = _scene(rng, random_contents(rng, rng.randint(1, _MOST)))
        rows = [row for row in scene_rows(scene, rng) if row.kind in kinds and answer in (None, row.suffix)]
        if rows:
            return scene, rows


def _asking(rng: random.Random, number: int, kinds: Sequence[str], answer: str | None = None) -> Content:
    scene, rows = _scene_with(rng, kinds, answer)
    asked = tuple(_asked(row) for row in rows)
    return replace(_described(scene, number), asked=asked)


def _asked(row: Row) -> Asked:
    return Asked(question=row.prefix.removeprefix(_QUESTION), answer=row.suffix, kind=row.kind)


def _with_choices(asked: Asked, rng: random.Random) -> Asked:
    places = tuple(place for line in grammar.PLACES for place in line)
    words = {"color": COLORS, "shape": SHAPES, "where": places}[asked.kind]
    wrong = rng.sample([word for word in words if word != asked.answer], _CHOICES - 1)
    choices = [asked.answer, *wrong]
    rng.shuffle(choices)
    return replace(asked, choices=tuple(choices))


def _described(scene: Scene, number: int) -> Content:
    objects = scene.left_to_right
    named = tuple(
        Target(label=grammar.described(item.color, item.shape), box=item.box, outline=item.outline)
        for item in objects
    )
    return Content(
        number=number,
        pictures=(draw_scene(scene, SIDE),),
        captions={"en": (grammar.caption_of(objects),)},
        objects=named,
    )


def _drifting(scene: Scene, rng: random.Random) -> Iterator[Scene]:
    """The scene again and again, all objects a bit further towards the middle each time."""
    step = rng.uniform(0.5, 1.0) * _STEP
    for frame in range(_FRAMES):
        moved = tuple(_moved(item, frame * step) for item in scene.objects)
        yield replace(scene, objects=moved)


def _moved(item: SceneObject, distance: float) -> SceneObject:
    """The object, nearer to the middle line from above or below; the order from left to right stays."""
    middle = item.center[1]
    shift = min(distance, abs(0.5 - middle)) * (1 if middle < 0.5 else -1)
    box = replace(item.box, y_min=item.box.y_min + shift, y_max=item.box.y_max + shift)
    return replace(item, outline=item.outline + np.array([0.0, shift]), box=box)
