"""From the fields of a row to its right answers."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from paligemma2.processing.locations import box_to_text
from paligemma2.processing.objects import codes_to_text
from paligemma2.types import Box


class Target(Protocol):
    """Gives all right answers of a row; a frozen dataclass, so that it can be printed and hashed."""

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """All right answers, at least one; training takes one of them at a time."""


@dataclass(frozen=True)
class Field:
    """The text of one field, or of each item of a list.

    Attributes:
        name: of the field.
        item: the key under which each item of the list has its text, unless the items are texts.
        lower: in lower case.
        skip_empty: leave out empty texts.
    """

    name: str
    item: str = ""
    lower: bool = False
    skip_empty: bool = False

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        value = fields[self.name]
        items = value if isinstance(value, list | tuple) else [value]
        texts = (str(each[self.item] if self.item and isinstance(each, Mapping) else each) for each in items)
        return tuple(text.lower() if self.lower else text for text in texts if text or not self.skip_empty)


@dataclass(frozen=True)
class Text:
    """One text made of fields, "The answer is {letter}."."""

    text: str

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        return (self.text.format_map(fields),)


@dataclass(frozen=True)
class Choice:
    """The right one of several options.

    Attributes:
        options: the field with the list of them.
        index: the field with the number of the right one, from 0.
    """

    options: str
    index: str

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        return (str(fields[self.options][int(fields[self.index])]),)


@dataclass(frozen=True)
class AnyOrder:
    """Answers of which some are lists with ", " between: these in every order of their parts.

    big_vision's InfographicVQA has its validation answers so (`datasets/infovqa/infovqa.py`).

    Attributes:
        answers: gives them as they are written.
        most: longer lists stay as they are, for the orders of more would fill the memory.
    """

    answers: Target
    most: int = 8

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        found: list[str] = []
        for answer in self.answers(fields):
            parts = answer.split(", ")
            orders = itertools.permutations(parts) if len(parts) <= self.most else [parts]
            found += (", ".join(order) for order in orders)
        return tuple(found)


@dataclass(frozen=True)
class ObjectTokens:
    """Box and mask of one object as the model writes them: 4 location and 16 mask tokens, without a name.

    Attributes:
        box: the field with its (y_min, x_min, y_max, x_max) as fractions of the picture.
        codes: the field with the codes of its mask, which `evaluation.mask_codes` makes; without it the
            answer is the box alone.
        mask: the field with the run lengths of its mask, as COCO writes them.
    """

    box: str = "box"
    codes: str = "codes"
    mask: str = "mask"

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        y_min, x_min, y_max, x_max = fields[self.box]
        box = Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)
        return (box_to_text(box) + codes_to_text(fields.get(self.codes, ())),)
