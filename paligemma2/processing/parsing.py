"""Objects in the model's answers: `<loc0010><loc0020><loc0500><loc0600> cat ; …`, with 16 `<seg>` for a mask.

    answer = text, {object, text}
    object = 4 locations, [16 masks], label, [";"]    with or without space between the three
    label  = all up to ";" or the next location or mask token, less the space around it; may be empty
    text   = what belongs to no object

One pass over the text, in linear time; no text makes it fail.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from paligemma2.model.config import NUM_LOCATION_TOKENS, NUM_MASK_TOKENS
from paligemma2.processing.locations import Divisor
from paligemma2.types import Box, Detection, ParsedAnswer, Problem

CODES_PER_MASK = 16
# Patterns start with the letter `<`, which `re` looks for much faster than for anything else.
_TOKEN = r"<(?:loc[0-9]{4}|seg[0-9]{3})>"
_LOCATION = "<loc([0-9]{4})>"
# An object, whole or not. Possessive repeats (`*+`) never give back what they took, so nothing is read twice.
_OBJECT = re.compile(
    rf"<(?:{(_LOCATION * 4)[1:]}\s*+|(loc[0-9]{{4}}>(?:<loc[0-9]{{4}}>){{0,2}}+)\s*+|seg[0-9]{{3}}>)"
    r"(?P<masks>(?:<seg[0-9]{3}>)*+)"
    rf"\s*+(?P<label>[^;<]*+(?:(?!{_TOKEN})<[^;<]*+)*+)(?:;\s*+)?+"
)
_CODES = {f"{code:03d}": code for code in range(1000)}
# What people write for a token, as `<loc12>`; neighbours are one mistake.
_NEARLY_TOKEN = rf"<(?!{_TOKEN[1:]})(?:loc|seg)[0-9]*+>"
_NEARLY_TOKENS = re.compile(rf"{_NEARLY_TOKEN}(?:{_NEARLY_TOKEN})*+")
_WHY_NO_TOKEN = "not a token: <loc> has 4 digits and <seg> has 3"
_LAST_LOCATION = f"{NUM_LOCATION_TOKENS - 1:04d}"
_FRACTIONS: Mapping[Divisor, Mapping[str, float]] = {
    1023: {f"{index:04d}": index / 1023 for index in range(NUM_LOCATION_TOKENS)},
    1024: {f"{index:04d}": index / 1024 for index in range(NUM_LOCATION_TOKENS)},
}
# The constructors of frozen values would take most of the time that a long answer needs.
_set_y_min, _set_x_min, _set_y_max, _set_x_max = (
    vars(Box)[name].__set__ for name in ("y_min", "x_min", "y_max", "x_max")
)
_set_label, _set_box, _set_score, _set_codes, _set_mask = (
    vars(Detection)[name].__set__ for name in ("label", "box", "score", "codes", "mask")
)


def parse_answer(text: str, *, divisor: Divisor = 1023) -> ParsedAnswer:
    """The objects in an answer in their order, the text that belongs to none, and what was malformed.

    Nothing is repaired. Where the location tokens make no box, the object is left out and reported, and its
    label is left-over text. A box whose mask tokens make no mask, or that has no label, stays and is
    reported. Tokens with a wrong number of digits (`<loc12>`) are text, and reported.

    Args:
        text: what the model wrote.
        divisor: see `locations.indices_to_box`.
    """
    found = _Found()
    fractions = _FRACTIONS[divisor]
    end = 0
    for match in _OBJECT.finditer(text):
        if match.start() > end:
            found.add_text(text, end, match.start())
        _read_object(match, fractions, found)
        end = match.end()
    found.add_text(text, end, len(text))
    found.problems.sort(key=lambda problem: problem.start)
    return ParsedAnswer(
        detections=tuple(found.detections),
        text=" ".join(part.strip() for part in found.text if part.replace(";", " ").strip()),
        problems=tuple(found.problems),
        spans=tuple(found.spans),
    )


@dataclass(frozen=True)
class _Found:
    detections: list[Detection] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def add_text(self, text: str, start: int, end: int) -> None:
        """Keep what belongs to no object, and report what somebody meant for a token in it."""
        self.text.append(text[start:end])
        self.look_for_nearly_tokens(text, start, end)

    def look_for_nearly_tokens(self, text: str, start: int, end: int) -> None:
        self.problems.extend(
            Problem(start=match.start(), end=match.end(), reason=_WHY_NO_TOKEN)
            for match in _NEARLY_TOKENS.finditer(text, start, end)
        )


def _read_object(match: re.Match[str], fractions: Mapping[str, float], found: _Found) -> None:
    y_min, x_min, y_max, x_max, partial, masks, label = match.groups()
    start, end = match.start(), match.end("label")
    if label and label[-1].isspace():
        end -= len(label) - len(label := label.rstrip())
    if "<" in label:
        found.look_for_nearly_tokens(match.string, end - len(label), end)
    if not (x_max and y_min < y_max <= _LAST_LOCATION and x_min < x_max <= _LAST_LOCATION):
        reason = _why_no_box((y_min, x_min, y_max, x_max)) if x_max else _why_partial(partial)
        found.problems.append(_report(match, start, reason))
        found.text.append(label)
        return
    codes = _read_codes(match, found.problems) if masks else ()
    if not label:
        problem = _report(match, start, "the box has no label")
        found.problems.append(problem)
        end = problem.end
    box = object.__new__(Box)
    _set_y_min(box, fractions[y_min])
    _set_x_min(box, fractions[x_min])
    _set_y_max(box, fractions[y_max])
    _set_x_max(box, fractions[x_max])
    detection = object.__new__(Detection)
    _set_label(detection, label)
    _set_box(detection, box)
    _set_score(detection, None)
    _set_codes(detection, codes)
    _set_mask(detection, None)
    found.detections.append(detection)
    found.spans.append((start, end))


def _read_codes(match: re.Match[str], problems: list[Problem]) -> tuple[int, ...]:
    codes = tuple(map(_CODES.__getitem__, match["masks"][4:-1].split("><seg")))
    reason = _why_no_mask(codes)
    if reason:
        problems.append(_report(match, match.start("masks"), reason))
    return () if reason else codes


def _report(match: re.Match[str], start: int, reason: str) -> Problem:
    """A problem with the tokens of an object from `start` on."""
    tokens = match.string[start : match.start("label")].rstrip()
    return Problem(start=start, end=start + len(tokens), reason=reason)


def _why_partial(locations: str | None) -> str:
    if locations is None:
        return "mask tokens without a box"
    return f"a box has 4 location tokens, not {locations.count('>')}"


def _why_no_box(numbers: tuple[str, ...]) -> str:
    if max(numbers) > _LAST_LOCATION:
        return f"location {max(numbers)} is above {_LAST_LOCATION}"
    y_min, x_min, y_max, x_max = numbers
    if y_max < y_min or x_max < x_min:
        return "the corners of the box are swapped"
    return "the box has no area"


def _why_no_mask(codes: tuple[int, ...]) -> str:
    if len(codes) != CODES_PER_MASK:
        return f"a mask has {CODES_PER_MASK} mask tokens, not {len(codes)}"
    if max(codes) >= NUM_MASK_TOKENS:
        return f"mask token {max(codes)} is above {NUM_MASK_TOKENS - 1}"
    return ""
