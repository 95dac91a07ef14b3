"""From the fields of a row to its right answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Target(Protocol):
    """Gives all right answers of a row; a frozen dataclass, so that it can be printed and hashed."""

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """All right answers, at least one; training takes one of them at a time."""


@dataclass(frozen=True)
class Field:
    """The text of one field, or of each item of a list.

    Attributes:
        name: of the field.
        item: the key under which each item of the list has its text; "" where items are texts.
        lower: in lower case.
    """

    name: str
    item: str = ""
    lower: bool = False

    def __call__(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """See `Target`."""
        value = fields[self.name]
        items = value if isinstance(value, list | tuple) else [value]
        texts = (str(each[self.item] if self.item else each) for each in items)
        return tuple(text.lower() if self.lower else text for text in texts)
