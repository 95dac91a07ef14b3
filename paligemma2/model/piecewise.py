"""Work that stops after each layer, so that something else can be done in between."""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

_Result = TypeVar("_Result")
Piecewise: TypeAlias = Generator[None, None, _Result]
"""Yields after each layer; what was computed is the value of the generator (of `yield from`)."""


def finish(work: Piecewise[_Result]) -> _Result:
    """Do all the rest without a stop."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: _Result = stop.value
            return result
