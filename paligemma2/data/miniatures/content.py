"""What a miniature of a data set is about, before it becomes files of any format."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from paligemma2.data.synthetic.samples import Pixels, Target

SIDE = 112
"""Pixels of every picture and video; what the small model sees."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with its only right answer, or a statement that is "True" or "False".

    Attributes:
        question: in English.
        answer: in English.
        kind: of question, "color".
        choices: answers to choose from, the right one among them; empty for open questions.
        translations: the question in other languages, by their codes.
    """

    question: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()
    translations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """A picture, a pair of pictures or a video, and all that is known about it.

    Attributes:
        number: from 1, different for all contents of a miniature.
        pictures: one; two for a pair; the frames of a video.
        asked: questions.
        captions: by language.
        objects: with the words that mean each of them alone in `label`.
    """

    number: int
    pictures: tuple[Pixels, ...]
    asked: tuple[Asked, ...] = ()
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    objects: tuple[Target, ...] = ()
