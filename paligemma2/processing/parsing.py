"""Objects in the model's answers: `<loc0010><loc0020><loc0500><loc0600> cat ; …`, with 16 `<seg>` for a mask.

One pass over the text, in linear time; no text makes it fail.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.model.config import NUM_LOCATION_TOKENS, NUM_MASK_TOKENS
from paligemma2.processing.locations import Divisor, indices_to_box
from paligemma2.types import Detection, ParsedAnswer, Problem

CODES_PER_MASK = 16
# One object or stray codes: location tokens, mask tokens, and the label up to `;` or the next token.
# Each part starts with a character that the part before cannot hold, so nothing is tried twice.
_OBJECT = re.compile(r"(?P<tokens>(?:<(?:loc[0-9]{4}|seg[0-9]{3})>)+)(?P<label>[^;<>]*)(?P<end>;?)")
_NUMBERS = re.compile(r"<(loc|seg)([0-9]+)>")


def parse_answer(text: str, *, divisor: Divisor = 1023) -> ParsedAnswer:
    """The objects in an answer in their order, the text that belongs to none, and what was malformed.

    A malformed object is left out and reported; codes that do not make a mask are reported and the box stays.

    Args:
        text: what the model wrote.
        divisor: see `locations.indices_to_box`.
    """
    detections: list[Detection] = []
    problems: list[Problem] = []
    left_over: list[str] = []
    end = 0
    for match in _OBJECT.finditer(text):
        left_over.append(text[end : match.start()])
        end = match.end()
        found = _read_object(match, divisor)
        detections += found.detections
        problems += found.problems
    left_over.append(text[end:])
    return ParsedAnswer(
        detections=tuple(detections), text="".join(left_over).strip(), problems=tuple(problems)
    )


@dataclass(frozen=True)
class _Group:
    """Location tokens followed by mask tokens, and where they stand in the answer."""

    locations: tuple[int, ...]
    codes: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class _Found:
    detections: list[Detection]
    problems: list[Problem]


def _read_object(match: re.Match[str], divisor: Divisor) -> _Found:
    groups = list(_split_groups(match["tokens"], match.start()))
    found = _Found([], [])
    for group in groups:
        label = match["label"].strip() if group is groups[-1] else ""
        reason = _why_no_box(group.locations)
        if reason:
            found.problems.append(Problem(start=group.start, end=group.end, reason=reason))
            continue
        codes = group.codes
        if codes and not _is_mask(codes):
            reason = f"{len(codes)} mask tokens do not make a mask ({CODES_PER_MASK} from 0 to 127 do)"
            found.problems.append(Problem(start=group.start, end=group.end, reason=reason))
            codes = ()
        box = indices_to_box(group.locations, divisor=divisor)
        found.detections.append(Detection(label=label, box=box, codes=codes))
    return found


def _split_groups(tokens: str, offset: int) -> Iterator[_Group]:
    """Cuts a run of tokens into objects: after four locations, or where locations follow mask tokens."""
    locations: list[int] = []
    codes: list[int] = []
    start = end = 0
    for match in _NUMBERS.finditer(tokens):
        if match[1] == "loc" and (codes or len(locations) == 4):
            yield _Group(tuple(locations), tuple(codes), offset + start, offset + end)
            locations, codes, start = [], [], match.start()
        (locations if match[1] == "loc" else codes).append(int(match[2]))
        end = match.end()
    yield _Group(tuple(locations), tuple(codes), offset + start, offset + end)


def _why_no_box(locations: tuple[int, ...]) -> str:
    if len(locations) != 4:
        return f"{len(locations)} location tokens where a box has 4"
    if max(locations) >= NUM_LOCATION_TOKENS:
        return f"location {max(locations)} is above {NUM_LOCATION_TOKENS - 1}"
    y_min, x_min, y_max, x_max = locations
    return "" if y_max > y_min and x_max > x_min else "the box has no area"


def _is_mask(codes: tuple[int, ...]) -> bool:
    return len(codes) == CODES_PER_MASK and max(codes) < NUM_MASK_TOKENS
