"""JSON lines with `image`, `prefix` and `suffix`, as Roboflow exports them for PaliGemma.

Read: `_annotations.train.jsonl` (or `train.jsonl`) beside its pictures, the same in a folder `dataset`, and
`train/annotations.jsonl`. Written: the first.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from paligemma2.data.formats.records import answers_of, rows_of_files
from paligemma2.data.pictures import PictureFolder
from paligemma2.data.rows import DataRow, OnProblem
from paligemma2.data.text_files import TextFiles, json_lines

_METADATA = "metadata.jsonl"


def is_here(source: Path) -> bool:
    """Whether the folder has such files, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".jsonl" and source.name != _METADATA else []
    found = [*source.glob("*.jsonl"), *source.glob("dataset/*.jsonl"), *source.glob("*/annotations.jsonl")]
    return sorted({path for path in found if path.name != _METADATA})


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every file."""
    return rows_of_files(_files(source), source, json_lines, on_problem)


class Writer:
    """Writes `_annotations.<split>.jsonl` and the pictures beside it."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._files = folder, PictureFolder(), TextFiles()

    def write(self, row: DataRow) -> None:
        """Add a line; several pictures become a list."""
        suffix = answers_of(row)
        names = [self._pictures.add(self._folder, row, number) for number in range(len(row.images))]
        record = {"image": names if len(names) > 1 else names[0], "prefix": row.prefix, "suffix": suffix}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        self._files.write(self._folder / f"_annotations.{row.split}.jsonl", line)

    def close(self) -> None:
        """End the files."""
        self._files.close()
