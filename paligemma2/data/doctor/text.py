"""What is wrong with the text and the boxes of one row, as far as the row itself tells."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from paligemma2.data.rows import DataRow
from paligemma2.processing.parsing import CODES_PER_MASK, parse_answer
from paligemma2.types import Box, ParsedAnswer

_ASKS_FOR_OBJECTS = re.compile(r"\s*(detect|segment)\s+(.*)", re.DOTALL)
_MARKER = re.compile(r"<(?:image|pad|bos|eos|start_of_turn|end_of_turn)>|</?s>|<\|[^|<>]*\|>")
_LOCATION = re.compile(r"<(?:loc[0-9]{4}|seg[0-9]{3})>")
# Byte order marks inside text, what a wrong decoding leaves behind, and control characters but newline.
_ODD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufeff\ufffd]")
_HALF_STEP = 0.5 / 1023  # of the location tokens: less cannot be seen in an answer
_SHOWN = 3


class Complaint(NamedTuple):
    """A rule that a row breaks, and how."""

    rule: str
    message: str


def asked_labels(prefix: str) -> tuple[str, ...] | None:
    """The labels that a prefix `detect …` or `segment …` names; None where it is another prompt."""
    match = _ASKS_FOR_OBJECTS.fullmatch(prefix)
    if match is None:
        return None
    return tuple(dict.fromkeys(label.strip() for label in match[2].split(";") if label.strip()))


def answered(suffix: str) -> ParsedAnswer | None:
    """The objects in a suffix; None where it has no location or mask token."""
    return parse_answer(suffix) if _LOCATION.search(suffix) else None


def complaints(row: DataRow, parsed: ParsedAnswer | None) -> Iterator[Complaint]:
    """What is wrong with the text and the objects of a row.

    Args:
        row: with its text.
        parsed: the objects in its suffix, by `answered`.
    """
    for thing in row.objects:
        if reason := _why_bad(thing.box):
            yield Complaint("bad-box", f"the box of {thing.label!r} {reason}")
    if row.suffix is None:
        yield Complaint("no-objects", "no object is annotated")
        return
    if not row.suffix.strip():
        yield Complaint("empty-suffix", "the suffix is empty")
        return
    yield from _stray_text(row.prefix, row.suffix)
    yield from _malformed(row.prefix, row.suffix, parsed)
    yield from _other_labels(row.prefix, parsed)


def _why_bad(box: Box) -> str:
    corners = (box.y_min, box.x_min, box.y_max, box.x_max)
    shown = f"y {box.y_min:.4g} to {box.y_max:.4g}, x {box.x_min:.4g} to {box.x_max:.4g}"
    if not all(math.isfinite(corner) for corner in corners):
        return f"has a corner that is no number ({shown})"
    if min(corners) < -_HALF_STEP or max(corners) > 1 + _HALF_STEP:
        return f"is out of the picture ({shown})"
    if box.y_max < box.y_min or box.x_max < box.x_min:
        return f"has its corners the wrong way round ({shown})"
    return f"has no area ({shown})" if box.y_max == box.y_min or box.x_max == box.x_min else ""


def _stray_text(prefix: str, suffix: str) -> Iterator[Complaint]:
    for name, text in (("prefix", prefix), ("suffix", suffix)):
        if match := _MARKER.search(text):
            yield Complaint("special-text", f"{match[0]} in the {name} is read as plain letters")
        if match := _ODD.search(text):
            yield Complaint("odd-characters", f"U+{ord(match[0]):04X} in the {name} at {match.start() + 1}")
    if match := _LOCATION.search(prefix):
        yield Complaint("special-text", f"{match[0]} in the prefix is read as plain letters")
    if prefix.endswith("\n"):
        yield Complaint("special-text", "the prefix ends in a newline, and the processor adds one")


def _malformed(prefix: str, suffix: str, parsed: ParsedAnswer | None) -> Iterator[Complaint]:
    match = _ASKS_FOR_OBJECTS.fullmatch(prefix)
    if parsed is None:
        if match is not None:
            yield Complaint("malformed-answer", f"the prefix asks to {match[1]}, the suffix has no box")
        return
    for problem in parsed.problems:
        span = suffix[problem.start : problem.end]
        yield Complaint("malformed-answer", f"at {problem.start + 1}: {problem.reason} ({_shortened(span)})")
    without = sum(1 for detection in parsed.detections if len(detection.codes) != CODES_PER_MASK)
    if match is not None and match[1] == "segment" and without:
        message = f"the prefix asks to segment, {without} of {len(parsed.detections)} objects have no mask"
        yield Complaint("malformed-answer", message)


def _other_labels(prefix: str, parsed: ParsedAnswer | None) -> Iterator[Complaint]:
    asked = asked_labels(prefix)
    if asked is None or parsed is None:
        return
    found = {detection.label for detection in parsed.detections if detection.label}
    if unasked := sorted(found - set(asked)):
        yield Complaint("unasked-label", f"the prefix does not name {_listed(unasked)}")
    if absent := [label for label in asked if label not in found]:
        yield Complaint("absent-label", f"the answer has no {_listed(absent)}")


def _listed(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:_SHOWN])
    return shown if len(labels) <= _SHOWN else f"{shown} and {len(labels) - _SHOWN} more"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
