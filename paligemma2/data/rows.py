"""One row of a data set, whatever format it comes from, and what can be wrong with one."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from paligemma2.types import Detection, ImageSource

Point: TypeAlias = tuple[float, float]
CAPTION_WORDS = ("caption", "cap", "describe")  # that prefixes for captions begin with
_SPLITS = {
    "train": ("train", "training", "trainval"),
    "valid": ("valid", "validation", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLITS.items() for word in words}


@dataclass(frozen=True, kw_only=True)
class Annotation(Detection):
    """An object as a person annotated it: label and box, and its outline where the format has one.

    Attributes:
        polygons: outlines of its parts, points (x, y) as fractions of the whole picture.
        rle: mask of the whole picture as COCO writes it, `size` [height, width] and `counts`, either
            compressed text or a list of run lengths; None where there is none.
        is_crowd: a region of many things that nobody counted (COCO's `iscrowd`).
    """

    polygons: tuple[tuple[Point, ...], ...] = ()
    rle: Mapping[str, Any] | None = None
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class DataRow:
    """One row: pictures, and a text to learn or objects that can become one.

    Attributes:
        images: paths, which nobody has checked to exist, or encoded bytes.
        prefix: what is asked; empty where the format has objects only.
        suffix: the answer; None where the format has objects only.
        answers: all right answers where there are several, as captions of one picture; `suffix` is the first.
        objects: as read, with boxes in 0..1; `row_tasks` turns them into prefix and suffix and back.
        height: of the picture in pixels where the format states it.
        width: the same.
        split: "train", "valid", "test", or the format's own word if it is another.
        id: of the row, unique in a sound data set.
        file: where the row is written.
        line: in `file`, from 1; the number of the record where a file has no lines; None where neither helps.
    """

    images: tuple[ImageSource, ...]
    prefix: str = ""
    suffix: str | None = None
    answers: tuple[str, ...] = ()
    objects: tuple[Annotation, ...] = ()
    height: int | None = None
    width: int | None = None
    split: str = "train"
    id: str = ""
    file: Path
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class RowProblem:
    """Something wrong in a data set.

    Attributes:
        file: where.
        line: as in `DataRow`.
        reason: what is wrong, the same words each time, so that it can be counted.
        detail: with which value; may be empty.
        is_skipped: the row is left out; otherwise it is kept, corrected as the reason says.
    """

    file: Path
    line: int | None = None
    reason: str
    detail: str = ""
    is_skipped: bool = True

    def __str__(self) -> str:
        place = self.file.name if self.line is None else f"{self.file.name}, line {self.line}"
        return f"{place}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


OnProblem: TypeAlias = Callable[[RowProblem], None]
_KEPT_PROBLEMS = 10


@dataclass(kw_only=True)
class ProblemCounts:
    """How often something was wrong in a data set.

    Attributes:
        skipped: rows, or parts of files, that are left out, by reason.
        noted: what was corrected or left out of rows that are kept, by reason.
        problems: the first of each reason.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    problems: list[RowProblem] = field(default_factory=list)

    def add(self, problem: RowProblem) -> None:
        """Count a problem, and keep it if it is among the first of its kind."""
        counts = self.skipped if problem.is_skipped else self.noted
        counts[problem.reason] += 1
        if counts[problem.reason] == 1 and len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(problem)


class UnusableRow(ValueError):
    """Why a row is left out; its reader or the converter makes a `RowProblem` of it.

    Args:
        reason: the same words each time.
        detail: with which value.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail

    def problem(self, file: Path, line: int | None = None) -> RowProblem:
        """The problem of a row in this place, which is skipped."""
        return RowProblem(file=file, line=line, reason=self.reason, detail=self.detail)


def one_per_answer(row: DataRow) -> Iterator[DataRow]:
    """The row, or where it has several answers a row for each of them."""
    if not row.answers:
        yield row
    for number, answer in enumerate(row.answers):
        yield replace(row, suffix=answer, answers=(), id=f"{row.id}:{number}")


def canonical_split(name: str) -> str:
    """What a split is called here: `valid` for `val`; a word that means none of the three stays as it is."""
    return _SPLIT_OF_WORD.get(name.lower(), name)


def split_in(*names: str) -> str | None:
    """The split that names of folders and files speak of, as `instances_val2017`; the last counts most."""
    for name in reversed(names):
        for word in re.findall("[a-z]+", name.lower()):
            if word in _SPLIT_OF_WORD:
                return _SPLIT_OF_WORD[word]
    return None


def split_of_file(file: Path, root: Path) -> str:
    """The split of a file by its name, else by its folders below `root`, else "train"."""
    is_below = file.parent.is_relative_to(root)  # not where the data set is the file itself
    folders: Sequence[str] = file.parent.relative_to(root).parts if is_below else ()
    return split_in(*folders, file.stem) or "train"
