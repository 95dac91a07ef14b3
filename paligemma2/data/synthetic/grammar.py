"""The sentences of the procedural world, and the list of whole words that they use."""

import re
from collections.abc import Iterable, Sequence

from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.scenes import MAX_OBJECTS, SceneObject
from paligemma2.data.synthetic.shapes import SHAPES

CAPTION = "caption en"
OCR = "ocr"
DETECT = "detect {targets}"
SEGMENT = "segment {thing}"
SAY = "say {text}"

COLOR_OF = "answer en what color is the {thing}?"
SHAPE_OF_COLOR = ("answer en what shape is {color}?", "answer en what shape is the {color} object?")
COUNT_ALL = "answer en how many objects are there?"
COUNT_SHAPE = "answer en how many {plural} are there?"
COUNT_COLOR = "answer en how many {color} objects are there?"
WHERE = "answer en where is the {thing}?"
RELATION = "answer en is the {thing} {relation} the {other}?"
WHAT_RELATION = "answer en what is {relation} the {other}?"
EXISTS = "answer en is there {described}?"

PAIR_SAME = "answer en do the two pictures show the same objects?"
PAIR_WHICH_HAS = "answer en which picture has {described}?"
PAIR_MORE = "answer en which picture has more objects?"
PAIR_COLOR = "answer en what color is the {shape} in the {ordinal} picture?"
PAIR_SHAPE = "answer en what shape is the {color} object in the {ordinal} picture?"

PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")
SIDES = ("left", "right", "top", "bottom")
ORDINALS = ("first", "second")

_WORD = re.compile(r"<loc\d{4}>|[a-z]+|\d|[^\sa-z\d]")


def plural(shape: str) -> str:
    """The word for several of a shape."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def described(color: str, shape: str) -> str:
    """A colour and a shape with the article: "an orange star"."""
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {shape}"


def listed(parts: Sequence[str]) -> str:
    """The parts as English lists them: "a, b and c"."""
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def caption_of(objects: Iterable[SceneObject]) -> str:
    """All objects in the order given: "a red circle, a blue square and a green star"."""
    return listed([described(item.color, item.shape) for item in objects])


def words_of(text: str) -> list[str]:
    """The whole words, digits and signs of a prefix or suffix, without the location tokens."""
    return [word for word in _WORD.findall(text) if not word.startswith("<loc")]


def _every_text() -> list[str]:
    templates = [
        *(CAPTION, OCR, DETECT, SEGMENT, SAY, COLOR_OF, COUNT_ALL, COUNT_SHAPE, COUNT_COLOR, WHERE, RELATION),
        *(WHAT_RELATION, EXISTS, PAIR_SAME, PAIR_WHICH_HAS, PAIR_MORE, PAIR_COLOR),
        *(PAIR_SHAPE, *SHAPE_OF_COLOR),
    ]
    texts = [re.sub(r"\{\w+\}", "", template) for template in templates]
    texts += [*SHAPES, *COLORS, *ORDINALS, *RELATIONS, *SIDES, *(plural(shape) for shape in SHAPES)]
    texts += [place for row in PLACES for place in row]
    texts += [str(number) for number in range(MAX_OBJECTS + 1)]
    return [*texts, "a an and , ; ? yes no object"]


VOCABULARY: tuple[str, ...] = tuple(sorted({word for text in _every_text() for word in words_of(text)}))
"""Every whole word, digit and sign that a prefix or suffix of these sentences may use."""
