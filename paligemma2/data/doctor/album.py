"""The different pictures of a data set: which rows use them, and which of them lie in train and eval both."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from paligemma2.data.doctor.coverage import TRAIN
from paligemma2.data.doctor.findings import Findings, Place
from paligemma2.data.doctor.pictures import PictureFacts, PictureSource
from paligemma2.data.near_duplicates import SignatureTable, compare
from paligemma2.data.rows import DataRow
from paligemma2.types import ImageSource


@dataclass(slots=True)
class _Use:
    """Who uses a picture: the first row in train, the first elsewhere, and how many rows in all."""

    name: str
    stated: tuple[int, int] | None
    train: Place | None = None
    held_out: Place | None = None
    num_rows: int = 0

    @property
    def first(self) -> Place:
        place = self.train or self.held_out
        assert place is not None, "a picture is known by a row that uses it"
        return place


@dataclass(frozen=True, kw_only=True)
class AlbumSummary:
    """Counts of different pictures.

    Attributes:
        pictures: named by any row, each file once.
        unreadable: of these, missing or damaged.
        compared: pictures of eval that were compared with those of train; 0 where one of both is empty.
        flat: pictures that were not compared because too little is on them.
        cut: pictures of eval that share so much with so many of train that not all were compared.
    """

    pictures: int
    unreadable: int
    compared: int
    flat: int
    cut: int


class Album:
    """Every picture once. It keeps a few hundred bytes of each: its name, its digest and its signature."""

    def __init__(self) -> None:
        self._numbers: dict[str | bytes, int] = {}
        self._uses: list[_Use] = []
        self._by_digest: dict[bytes, list[int]] = {}
        self._signatures = SignatureTable()
        self._num_flat = 0
        self._unreadable: list[tuple[int, str, str]] = []

    def add(self, row: DataRow, place: Place) -> list[tuple[int, PictureSource]]:
        """Note which pictures a row uses; those that are new, with their numbers."""
        new: list[tuple[int, PictureSource]] = []
        for image in row.images:
            source = _source(image)
            key = (
                hashlib.blake2b(source, digest_size=16).digest() if isinstance(source, bytes) else str(source)
            )
            if key not in self._numbers:
                self._numbers[key] = len(self._uses)
                self._uses.append(_Use(_name(source, row), _stated(row)))
                new.append((self._numbers[key], source))
            use = self._uses[self._numbers[key]]
            use.num_rows += 1
            if row.split == TRAIN:
                use.train = use.train or place
            else:
                use.held_out = use.held_out or place
        return new

    def learn(self, number: int, facts: PictureFacts, findings: Findings) -> None:
        """Keep what is needed of a picture's facts, and report what is wrong with it."""
        use = self._uses[number]
        if facts.digest:
            self._by_digest.setdefault(facts.digest, []).append(number)
        if facts.rule:
            self._unreadable.append((number, facts.rule, facts.message))
            return
        if use.stated is not None and use.stated != (facts.height, facts.width):
            stated = f"{use.stated[1]} × {use.stated[0]}"
            message = f"{use.name} is {facts.width} × {facts.height}, annotated as {stated}"
            findings.add("size-mismatch", message, use.first)
        if facts.mode:
            findings.add("image-mode", f"{use.name} has mode {facts.mode}", use.first)
        if facts.is_turned:
            findings.add("turned-image", f"{use.name} is turned upright by its EXIF data", use.first)
        if facts.signature is not None and facts.signature.has_detail:
            self._signatures.add(number, facts.signature)
        else:
            self._num_flat += 1

    def report(self, findings: Findings) -> AlbumSummary:
        """Report unreadable pictures, and those that train and eval share or all but share."""
        for number, rule, message in self._unreadable:
            use = self._uses[number]
            others = f"; {use.num_rows} rows use it" if use.num_rows > 1 else ""
            findings.add(rule, message + others, use.first)
        train, held_out = self._leaks(findings)
        trained, scored = self._signatures.part(train), self._signatures.part(held_out)
        found = compare(trained, scored)
        for pair in found.pairs:
            ours, theirs = self._uses[pair.first], self._uses[pair.second]
            message = f"{theirs.name} is like {ours.name} of train ({ours.train}), {pair.distance} of 64 bits"
            findings.add("near-duplicate", f"{message} differ", theirs.held_out)
        return AlbumSummary(
            pictures=len(self._uses),
            unreadable=len(self._unreadable),
            compared=len(scored) if len(trained) else 0,
            flat=self._num_flat,
            cut=found.num_cut,
        )

    def _leaks(self, findings: Findings) -> tuple[set[int], set[int]]:
        """Report equal pictures; the numbers of different ones in train, and of those in eval alone."""
        train: set[int] = set()
        held_out: set[int] = set()
        for numbers in self._by_digest.values():
            in_train = [number for number in numbers if self._uses[number].train]
            in_eval = [number for number in numbers if self._uses[number].held_out]
            if in_train:
                train.add(in_train[0])
            elif in_eval:
                held_out.add(in_eval[0])
            for number in in_eval if in_train else ():
                use, ours = self._uses[number], self._uses[in_train[0]]
                name = use.name if use.name == ours.name else f"{use.name}, the same as {ours.name},"
                findings.add("leaked-image", f"{name} is in train ({ours.train})", use.held_out)
        return train, held_out


def _source(image: ImageSource) -> PictureSource:
    if isinstance(image, bytes):
        return image
    assert isinstance(image, str | Path), "readers give paths and bytes"
    return Path(image)


def _name(source: PictureSource, row: DataRow) -> str:
    return f"the picture of {row.id or 'this row'}" if isinstance(source, bytes) else source.name


def _stated(row: DataRow) -> tuple[int, int] | None:
    """(height, width) that the format states of its only picture."""
    return (row.height, row.width) if row.height and row.width and len(row.images) == 1 else None
