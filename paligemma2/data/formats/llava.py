"""LLaVA's conversations: a JSON list of `image` and turns of `human` and `gpt`.

PaliGemma answers one question at a time: each pair of turns becomes a row, without the turns before it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paligemma2.data.formats.records import suffix_of
from paligemma2.data.pictures import PictureFolder
from paligemma2.data.rows import DataRow, OnProblem, UnusableRow, split_of_file
from paligemma2.data.text_files import TextFiles, json_array, open_bytes

_TAG = "<image>"
_PEEK = 1 << 16
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")


def is_here(source: Path) -> bool:
    """Whether the folder has such files, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    found = [source] if source.is_file() else sorted(source.glob("*.json"))
    return [path for path in found if path.suffix == ".json" and _looks_right(path)]


def _looks_right(path: Path) -> bool:
    with open_bytes(path) as file:
        head = file.read(_PEEK)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") and b'"conversations"' in head


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every file; pictures lie relative to it, or in a folder `images` beside it."""
    for path in _files(source):
        split = split_of_file(path, source)
        for line, record in json_array(path, on_problem):
            try:
                yield from _rows(record, path, line, split)
            except UnusableRow as problem:
                on_problem(problem.problem(path, line))


def _rows(record: dict[str, Any], path: Path, line: int, split: str) -> list[DataRow]:
    images, name = _images(record, path.parent), str(record.get("id") or f"{path.stem}:{line}")
    pairs = _pairs(record.get("conversations"))
    return [
        DataRow(
            images=images,
            prefix=asked.replace(_TAG, "").strip(),
            suffix=answer,
            split=split,
            id=name if len(pairs) == 1 else f"{name}:{number}",
            file=path,
            line=line,
        )
        for number, (asked, answer) in enumerate(pairs, start=1)
    ]


def _images(record: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    stated = record.get("image")
    names = [stated] if isinstance(stated, str) else stated
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UnusableRow("no picture is named", f"image is {stated!r}")
    places = (folder, folder / "images")
    return tuple(next((at / name for at in places if (at / name).is_file()), folder / name) for name in names)


def _pairs(turns: Any) -> list[tuple[str, str]]:
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise UnusableRow("conversations are not pairs of turns", f"it is {str(turns)[:80]}")
    said = [_said(turn) for turn in turns]
    pairs = list(zip(said[::2], said[1::2], strict=True))
    for (asking, _), (answering, answer) in pairs:
        if asking not in _ASKING or answering not in _ANSWERING:
            raise UnusableRow("conversations are not pairs of turns", f"{asking!r}, then {answering!r}")
        if not answer.strip():
            raise UnusableRow("the suffix is empty")
    return [(asked, answer) for (_, asked), (_, answer) in pairs]


def _said(turn: Any) -> tuple[str, str]:
    speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
    if not isinstance(speaker, str) or not isinstance(text, str):
        raise UnusableRow("a turn has no from and value", f"it is {str(turn)[:80]}")
    return speaker, text


class Writer:
    """Writes `<split>.json` with one conversation of two turns per row, and the pictures into `images`."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._files = folder, PictureFolder(), TextFiles()

    def write(self, row: DataRow) -> None:
        """Add a conversation."""
        suffix, folder = suffix_of(row), self._folder / "images"
        names = [f"images/{self._pictures.add(folder, row, number)}" for number in range(len(row.images))]
        asked = f"{_TAG}\n" * len(names) + row.prefix
        record = {
            "id": row.id,
            "image": names if len(names) > 1 else names[0],
            "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": suffix}],
        }
        path = self._folder / f"{row.split}.json"
        separator = ",\n" if path in self._files else "[\n"
        self._files.write(path, separator + json.dumps(record, ensure_ascii=False))

    def close(self) -> None:
        """End the lists and the files."""
        self._files.close(last="\n]\n")
