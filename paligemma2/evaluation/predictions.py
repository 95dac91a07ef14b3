"""Files of predictions: JSON lines that are added to safely, and gone on with after a kill.

The first line says what was asked of which model:
`{"protocol": {…, "hash": …}, "model": …, "fingerprint": …}`. Each further line is a `Prediction`. Of several
processes each writes its own part beside the file, until the parts are merged into it; so the number of
processes may change from one start to the next.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paligemma2.checkpoint.atomic import explained, new_file
from paligemma2.errors import DataError
from paligemma2.evaluation.protocol import HASH, OF_SCORES, differences

SUFFIX = ".jsonl"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The first line of a file of predictions.

    Attributes:
        protocol: what decides the numbers, with its hash under "hash".
        model: as it was named.
        fingerprint: of its weights, and of all else that was done to them.
    """

    protocol: Mapping[str, Any]
    model: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model wrote about one example, and what is right.

    Attributes:
        id: of the example, each once in a file.
        index: its place among the examples of the split.
        prompt: what was asked.
        prediction: what the model wrote.
        answers: all right answers.
        meta: what else the metric needs.
        unit: what is drawn anew when an interval is estimated.
        images: names of the pictures.
        finish_reason: "stop", or "length" for an answer that was cut.
        log_prob: natural logarithm of the probability of the tokens of the answer, without the end token.
        seconds: that it took: of its batch, divided by the examples of the batch.
        score: by the metric of the first row with this split; None before scoring.
    """

    id: str
    index: int
    prompt: str
    prediction: str
    answers: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    images: tuple[str, ...] = ()
    finish_reason: str = "stop"
    log_prob: float = 0.0
    seconds: float = 0.0
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a file holds."""

    header: Header
    lines: tuple[Prediction, ...]


def slug(split: str) -> str:
    """The name of the file of a split, without suffix: "val[-10240:]" is "val_-10240to"."""
    return re.sub(r"[^\w.%-]+", "_", split.replace(":", "to").replace("+", "and")).strip("_")


def read_predictions(path: Path) -> Predictions:
    """The header and the predictions of a file; a last line that a kill has cut is left out.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    found = _read(path)
    if found is None:
        raise DataError(f"{path} is not there, or empty", hint="make predictions first: paligemma2 evaluate")
    return found


def write_predictions(path: Path, header: Header, lines: Iterable[Prediction]) -> None:
    """Write a file anew, in the place of what is there; whole or not at all.

    Raises:
        WorkError: the disk is full or refuses; what was there is untouched.
    """
    with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
        file.write(_encoded(_header_json(header)))
        for line in lines:
            file.write(_encoded(_line_json(line)))


class PredictionsFile:
    """The file of one split while it is being made.

    Args:
        path: of the file; its parts stand beside it.
        header: what is asked of which model.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header

    def merge(self) -> dict[str, Prediction]:
        """Put all parts into the file, and give all predictions by id; call this in one process alone.

        A file whose predictions hold and whose scores were counted by another rule gets the new header.

        Raises:
            DataError: the file is damaged, or of another protocol or model.
            WorkError: the disk is full or refuses.
        """
        found: dict[str, Prediction] = {}
        parts = self._parts()
        own = _read(self.path)
        for content in (own, *map(_read, parts)):
            if content is not None:
                self._check(content.header)
                found |= {line.id: line for line in content.lines if line.id not in found}
        is_current = own is not None and own.header.protocol[HASH] == self.header.protocol[HASH]
        if parts or not is_current or (own is not None and _is_torn(self.path)):
            write_predictions(self.path, self.header, found.values())
        for part in parts:
            part.unlink(missing_ok=True)
        return found

    def part(self, rank: int, processes: int) -> Path:
        """Where a process adds its predictions: the file itself if there is only one process."""
        if processes == 1:
            return self.path
        return self.path.with_name(f"{self.path.stem}.part{rank}{SUFFIX}")

    def append(self, lines: Sequence[Prediction], *, rank: int = 0, processes: int = 1) -> None:
        """Add predictions; when this returns they are on the disk.

        Raises:
            WorkError: the disk is full or refuses.
        """
        path = self.part(rank, processes)
        data = b"".join(_encoded(_line_json(line)) for line in lines)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with explained(path), path.open("ab") as file:
            if file.tell() == 0:
                data = _encoded(_header_json(self.header)) + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _parts(self) -> list[Path]:
        pattern = re.compile(re.escape(self.path.stem) + r"\.part\d+" + re.escape(SUFFIX))
        if not self.path.parent.is_dir():
            return []
        return sorted(each for each in self.path.parent.iterdir() if pattern.fullmatch(each.name))

    def _check(self, other: Header) -> None:
        changed = set(differences(other.protocol, self.header.protocol)) - OF_SCORES
        if changed:
            name = sorted(changed)[0]
            raise DataError(
                f"{self.path} was made by another protocol ({other.protocol.get(HASH)}, now "
                f"{self.header.protocol[HASH]}): {name} was {other.protocol.get(name)!r}, "
                f"is {self.header.protocol.get(name)!r}",
                hint="give another output folder, or remove the file",
            )
        if other.fingerprint != self.header.fingerprint:
            raise DataError(
                f"{self.path} was made by another model: {other.model} ({other.fingerprint}), "
                f"not {self.header.model} ({self.header.fingerprint})",
                hint="give another output folder, or remove the file",
            )


def _read(path: Path) -> Predictions | None:
    """What a file holds; None if there is none, or only a header that was cut."""
    if not path.is_file():
        return None
    lines = list(_whole_lines(path))
    if not lines:
        return None
    try:
        header = Header(**lines[0])
        header.protocol[HASH]
        return Predictions(header=header, lines=tuple(map(_prediction, lines[1:])))
    except (TypeError, LookupError) as error:
        raise DataError(f"{path} is not a file of predictions: {error}", hint="remove it") from error


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # cut by a kill; nobody was told that it was written
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number} is damaged: {error}",
                    hint="remove this line, and it is predicted again",
                ) from error


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _prediction(line: dict[str, Any]) -> Prediction:
    return Prediction(**{**line, "answers": tuple(line["answers"]), "images": tuple(line["images"])})


def _header_json(header: Header) -> dict[str, Any]:
    return dataclasses.asdict(header)


def _line_json(line: Prediction) -> dict[str, Any]:
    content = {each.name: getattr(line, each.name) for each in dataclasses.fields(line)}
    if line.score is None:
        del content["score"]
    return content


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, default=str) + "\n").encode("utf-8", "surrogatepass")
