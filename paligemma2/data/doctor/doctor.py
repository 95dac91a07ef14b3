"""The doctor of data sets: finds what would spoil a training before it begins, in one pass.

It keeps a few hundred bytes of each row and of each different picture, never their pixels or texts.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from paligemma2.data.doctor.album import Album, AlbumSummary
from paligemma2.data.doctor.coverage import Coverage, SplitCoverage
from paligemma2.data.doctor.examples import Showcase, ShownExample, show_examples
from paligemma2.data.doctor.findings import RULES, Finding, Findings, Place, Severity
from paligemma2.data.doctor.lengths import Lengths, TextLengths
from paligemma2.data.doctor.pictures import PictureSource, examine_pictures
from paligemma2.data.doctor.text import answered, complaints
from paligemma2.data.rows import DataRow, RowProblem
from paligemma2.processing.processor import Processor
from paligemma2.types import ParsedAnswer

# Rules whose first row is worth seeing token by token.
_SHOWN_RULES = ("malformed-answer", "cannot-encode", "cut-text", "unasked-label", "special-text")


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What was found in a data set.

    Attributes:
        splits: what each has, train first.
        album: counts of the different pictures.
        lengths: tokens of the rows; None if there is no row with a text.
        counts: how often each rule was broken, worst first.
        findings: the first of each rule, worst first.
        skipped: rows that are not used, by reason.
        corrected: rows that the reader corrected, by reason.
        examples: some rows, token by token.
    """

    splits: Mapping[str, SplitCoverage]
    album: AlbumSummary
    lengths: Lengths | None
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    skipped: Mapping[str, int]
    corrected: Mapping[str, int]
    examples: tuple[ShownExample, ...]

    @property
    def num_rows(self) -> int:
        """Rows that were read."""
        return sum(split.rows for split in self.splits.values())

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(count for rule, count in self.counts.items() if RULES[rule].severity == severity)


class Doctor:
    """Examines the rows of one data set.

    Args:
        processor: of the model that shall be trained.
        text_length: see `TextLengths`.
        limit: how many findings of a rule are kept; 0 keeps all.
        num_first: how many of the first rows are shown token by token, beside the odd ones; 0 shows none.

    Raises:
        InputError: the limit is negative.
    """

    def __init__(
        self, processor: Processor, *, text_length: int | None = None, limit: int = 100, num_first: int = 3
    ) -> None:
        self._processor, self._text_length = processor, text_length
        self._findings = Findings(limit)
        self._skipped: Counter[str] = Counter()
        self._corrected: Counter[str] = Counter()
        self._coverage, self._album = Coverage(), Album()
        self._lengths = TextLengths(processor, text_length)
        self._showcase = Showcase(num_first)
        self._ids: dict[bytes, Place] = {}
        self._rows: dict[bytes, Place] = {}

    def add_problem(self, problem: RowProblem) -> None:
        """Note what the reader of the data set says; give this to `open_data`."""
        message = f"{problem.reason} ({problem.detail})" if problem.detail else problem.reason
        place = Place(problem.file, problem.line)
        if problem.is_skipped:
            self._skipped[problem.reason] += 1
            self._findings.add("skipped-row", message, place)
            return
        self._corrected[problem.reason] += 1
        is_box = problem.reason.startswith("a box ")  # so begins all that `formats.boxes` says
        self._findings.add("bad-box" if is_box else "corrected", message, place)

    def examine(
        self,
        rows: Iterable[DataRow],
        *,
        num_workers: int = 2,
        on_row: Callable[[int], None] | None = None,
    ) -> DataReport:
        """Read all rows and decode each different picture once.

        Args:
            rows: from `open_data`.
            num_workers: see `examine_pictures`.
            on_row: called with the number of rows read so far.

        Raises:
            WorkError: a process that decodes was killed.
        """
        for number, facts in examine_pictures(self._new_pictures(rows, on_row), num_workers=num_workers):
            self._album.learn(number, facts, self._findings)
        album = self._album.report(self._findings)
        self._coverage.report(self._findings)
        return DataReport(
            splits=self._coverage.splits,
            album=album,
            lengths=self._lengths.lengths,
            counts=self._findings.counts,
            findings=self._findings.kept,
            skipped=dict(self._skipped.most_common()),
            corrected=dict(self._corrected.most_common()),
            examples=show_examples(self._showcase.rows, self._processor, text_length=self._text_length),
        )

    def _new_pictures(
        self, rows: Iterable[DataRow], on_row: Callable[[int], None] | None
    ) -> Iterator[tuple[int, PictureSource]]:
        """Examines each row, and gives the pictures that were not seen before."""
        for number, row in enumerate(rows, start=1):
            place = Place(row.file, row.line)
            self._examine_row(row, place)
            yield from self._album.add(row, place)
            if on_row is not None:
                on_row(number)

    def _examine_row(self, row: DataRow, place: Place) -> None:
        parsed = answered(row.suffix) if row.suffix else None
        found = list(complaints(row, parsed))
        if row.suffix:
            found += self._lengths.add(row)
        for complaint in found:
            self._findings.add(complaint.rule, complaint.message, place)
        labels = _labels(row, parsed)
        self._coverage.add(row.split, len(row.images), labels)
        self._find_repeats(row, place)
        if row.suffix:
            rules = [complaint.rule for complaint in found if complaint.rule in _SHOWN_RULES]
            self._showcase.offer(row, len(labels), rules)

    def _find_repeats(self, row: DataRow, place: Place) -> None:
        if row.id:
            first = self._ids.setdefault(_digest(row.split, row.id), place)
            if first is not place:
                self._findings.add("duplicate-id", f"id {row.id!r} is already at {first}", place)
        names = [_digest(image) if isinstance(image, bytes) else str(image) for image in row.images]
        objects = [(thing.label, thing.box) for thing in row.objects]
        first = self._rows.setdefault(_digest(row.split, names, row.prefix, row.suffix, objects), place)
        if first is not place:
            self._findings.add("duplicate-row", f"the same pictures and text as {first}", place)


def _labels(row: DataRow, parsed: ParsedAnswer | None) -> list[str]:
    detections = row.objects or (parsed.detections if parsed else ())
    return [detection.label for detection in detections]


def _digest(*parts: object) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.digest()
