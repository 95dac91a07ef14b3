"""The files that test servers take, written from predictions and checked before anybody uploads them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from paligemma2.checkpoint.atomic import new_file
from paligemma2.errors import DataError, InputError
from paligemma2.evaluation.predictions import Prediction

IdKind: TypeAlias = Literal["number", "text", "number if all are"]
Answered: TypeAlias = list[tuple[str, str]]
_SHOWN = 3


class Writer(Protocol):
    """The format of a server."""

    def content(self, task: str, lines: Sequence[Prediction]) -> Any:
        """What the file holds, as plain JSON.

        Raises:
            DataError: an id is of another kind than the server's.
        """

    def answered(self, content: Any) -> Answered:
        """The id and the answer of every entry of a file, in order.

        Raises:
            DataError: an entry is not as the server wants it; names it.
        """


@dataclass(frozen=True, kw_only=True)
class ListWriter:
    """A list of objects, one for each question or picture.

    Attributes:
        id: the key of the id.
        answer: the key of the answer.
        ids: of which kind the ids are in JSON.
        source: where the format is described.
    """

    id: str
    answer: str
    ids: IdKind
    source: str

    def content(self, task: str, lines: Sequence[Prediction]) -> list[dict[str, Any]]:
        """See `Writer.content`."""
        are_numbers = self.ids == "number" or (
            self.ids == "number if all are" and all(line.id.isdecimal() for line in lines)
        )
        return [
            {self.id: _number(line.id) if are_numbers else line.id, self.answer: line.prediction}
            for line in lines
        ]

    def answered(self, content: Any) -> Answered:
        """See `Writer.answered`."""
        if not isinstance(content, list):
            raise _wrong(f"a {type(content).__name__}", "a list")
        found = []
        for place, entry in enumerate(content):
            if not isinstance(entry, dict) or set(entry) != {self.id, self.answer}:
                raise _wrong(f"entry {place}: {entry!r}", f"an object of {self.id} and {self.answer}")
            name, answer = entry[self.id], entry[self.answer]
            if not self._fits(name):
                raise _wrong(f"{self.id} {name!r}", f"a {self.ids.split()[0]}")
            if not isinstance(answer, str):
                raise _wrong(f"the answer to {name!r}: {answer!r}", "a text")
            found.append((str(name), answer))
        return found

    def _fits(self, name: object) -> bool:
        is_number = isinstance(name, int) and not isinstance(name, bool)
        return {"number": is_number, "text": isinstance(name, str)}.get(
            self.ids, is_number or isinstance(name, str)
        )


@dataclass(frozen=True, kw_only=True)
class AokvqaWriter:
    """An object with one entry per question, which holds an answer in words, a choice, or both.

    Attributes:
        source: where the format is described.
    """

    source: str
    _keys = ("direct_answer", "multiple_choice")

    def content(self, task: str, lines: Sequence[Prediction]) -> dict[str, dict[str, str]]:
        """See `Writer.content`; which answer it is tells the name of the task."""
        key = self._keys[task.endswith("_mc")]
        return {line.id: {key: line.prediction} for line in lines}

    def answered(self, content: Any) -> Answered:
        """See `Writer.answered`."""
        if not isinstance(content, dict):
            raise _wrong(f"a {type(content).__name__}", "an object")
        for name, entry in content.items():
            if not isinstance(entry, dict) or not entry or not set(entry) <= set(self._keys):
                raise _wrong(f"question {name}: {entry!r}", f"an object of {' and '.join(self._keys)}")
            if not all(isinstance(answer, str) for answer in entry.values()):
                raise _wrong(f"the answer to {name}: {entry!r}", "a text")
        return [(name, " / ".join(entry.values())) for name, entry in content.items()]


WRITERS: Mapping[str, Writer] = {
    "vqa": ListWriter(
        id="question_id", answer="answer", ids="number", source="https://visualqa.org/evaluation.html"
    ),
    "vizwiz": ListWriter(
        id="image", answer="answer", ids="text", source="https://vizwiz.org/tasks-and-datasets/vqa/"
    ),
    "docvqa": ListWriter(
        id="questionId", answer="answer", ids="number", source="https://rrc.cvc.uab.es/?ch=17&com=tasks"
    ),
    "stvqa": ListWriter(
        id="question_id", answer="answer", ids="number", source="https://rrc.cvc.uab.es/?ch=11&com=tasks"
    ),
    "aokvqa": AokvqaWriter(source="https://github.com/allenai/aokvqa, README.md"),
    "caption": ListWriter(
        id="image_id",
        answer="caption",
        ids="number if all are",
        source="https://cocodataset.org/#format-results",
    ),
    "gqa": ListWriter(
        id="questionId",
        answer="prediction",
        ids="text",
        source="https://cs.stanford.edu/people/dorarad/gqa/evaluate.html",
    ),
}
"""By the names that tasks have for them in `Task.submission`."""


def write_submission(
    path: Path, kind: str, task: str, lines: Sequence[Prediction], ids: Iterable[str]
) -> None:
    """Write the file for a server; whole or not at all, and only if the server will take it.

    Args:
        path: of the JSON file; what is there is replaced.
        kind: a name of `WRITERS`.
        task: its name.
        lines: of the test split.
        ids: of all questions, or pictures, of the split.

    Raises:
        DataError: a question has no answer, or something else is wrong; names it.
        InputError: there is no such format.
        WorkError: the disk is full or refuses.
    """
    content = _writer(kind).content(task, lines)
    check_submission(kind, content, ids)
    with new_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def check_submission(kind: str, content: Any, ids: Iterable[str]) -> None:
    """Check the content of a file for a server: every question once, no others, all of the right types.

    Args:
        kind: a name of `WRITERS`.
        content: of the file, as JSON gives it.
        ids: of all questions, or pictures, of the split.

    Raises:
        DataError: something is wrong; names the question.
        InputError: there is no such format.
    """
    wanted = list(ids)
    given = [name for name, _ in _writer(kind).answered(content)]
    known, have = set(wanted), set(given)
    faults = {
        "without an answer": [name for name in wanted if name not in have],
        "that the split does not have": [name for name in given if name not in known],
        "answered more than once": _repeated(given),
    }
    for fault, names in faults.items():
        if names:
            more = ", …" if len(names) > _SHOWN else ""
            raise DataError(
                f"{len(names)} questions {fault}: {', '.join(names[:_SHOWN])}{more}",
                hint="the server takes exactly one answer to every question of its split",
            )


def _repeated(names: Sequence[str]) -> list[str]:
    seen, again = set[str](), dict[str, None]()
    for name in names:
        if name in seen:
            again[name] = None
        seen.add(name)
    return list(again)


def _writer(kind: str) -> Writer:
    if kind not in WRITERS:
        raise InputError(f"there is no submission format {kind!r}", hint=f"use one of {', '.join(WRITERS)}")
    return WRITERS[kind]


def _number(name: str) -> int:
    if not name.isdecimal():
        raise _wrong(f"the id {name!r}", "a number")
    return int(name)


def _wrong(what: str, wanted: str) -> DataError:
    return DataError(f"{what} is not {wanted}", hint="the server takes nothing else")
