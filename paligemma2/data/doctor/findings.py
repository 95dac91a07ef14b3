"""What the doctor of data sets can find, how bad each is, and the list of what was found."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from paligemma2.errors import InputError

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that is looked for: how bad it is, and what to do about it."""

    severity: Severity
    advice: str


RULES: Mapping[str, Rule] = {
    "skipped-row": Rule(severity="error", advice="the reader leaves these out; correct or remove them"),
    "missing-image": Rule(severity="error", advice="training stops here; add the picture or remove the row"),
    "corrupt-image": Rule(severity="error", advice="replace the picture or remove the row"),
    "size-mismatch": Rule(
        severity="error", advice="boxes in pixels of another size are wrong; annotate the picture as it is"
    ),
    "empty-suffix": Rule(severity="error", advice="there is nothing to learn; write the answer"),
    "bad-box": Rule(severity="error", advice="corners are fractions 0..1, minimum before maximum"),
    "malformed-answer": Rule(
        severity="error", advice="an object is 4 <loc>, 16 <seg> for a mask, and a label; ' ; ' between them"
    ),
    "cannot-encode": Rule(severity="error", advice="shorten the row; training refuses it"),
    "leaked-image": Rule(severity="error", advice="the model is scored on what it learned; use one split"),
    "corrected": Rule(severity="warning", advice="the reader corrects these; correct the file"),
    "cut-text": Rule(severity="warning", advice="the end of the answer is not learned; allow longer text"),
    "near-duplicate": Rule(severity="warning", advice="look at both pictures; use one split for them"),
    "duplicate-row": Rule(severity="warning", advice="it counts twice; remove one"),
    "duplicate-id": Rule(severity="warning", advice="results by id will be mixed up; give each its own"),
    "unasked-label": Rule(severity="warning", advice="name every label of the answer in the prefix"),
    "eval-only-label": Rule(severity="warning", advice="the model cannot learn it; add it to train"),
    "special-text": Rule(
        severity="warning", advice="images, separator and end are added by the processor; remove them"
    ),
    "odd-characters": Rule(severity="warning", advice="the model learns to write these; clean the text"),
    "absent-label": Rule(severity="note", advice="right if it is not in the picture, else annotate it"),
    "train-only-label": Rule(severity="note", advice="it is learned, but never scored"),
    "no-objects": Rule(severity="note", advice="there is nothing to learn from these; they are left out"),
    "label-spelling": Rule(severity="note", advice="the model tells these apart; choose one spelling"),
    "image-mode": Rule(severity="note", advice="what the model sees is RGB; look whether that is meant"),
    "turned-image": Rule(severity="note", advice="boxes must be those of the upright picture"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A row: `line` counts from 1, None where the file has no lines that could be named."""

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found; `place` is None where it is about the whole data set."""

    rule: str
    message: str
    place: Place | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return RULES[self.rule].severity


class Findings:
    """Counts everything that is found, and keeps the first of each kind.

    Args:
        limit: how many of a kind are kept; 0 keeps all.

    Raises:
        InputError: the limit is negative.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise InputError(f"the limit of findings is {limit}", hint="give 1 or more, or 0 for all")
        self._limit = limit
        self._kept: dict[str, list[Finding]] = {rule: [] for rule in RULES}
        self._counts: Counter[str] = Counter()

    def add(self, rule: str, message: str, place: Place | None = None) -> None:
        """Count a finding, and keep it if there is room."""
        self._counts[rule] += 1
        kept = self._kept[rule]
        if not self._limit or len(kept) < self._limit:
            kept.append(Finding(rule, message, place))

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule was broken, those that were, worst first."""
        return {rule: self._counts[rule] for rule in RULES if self._counts[rule]}

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The findings that were kept, worst first, those of a rule in the order of the data."""
        return tuple(finding for rule in RULES for finding in self._kept[rule])
