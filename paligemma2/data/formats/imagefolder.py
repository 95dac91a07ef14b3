"""Hugging Face's `imagefolder`: pictures, and a `metadata.jsonl` or `metadata.csv` with their `file_name`.

Read: such a file in the folder itself or in any below it, with texts, a column `objects`, or both. Written:
`<split>/metadata.jsonl`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paligemma2.data.formats.csv_rows import csv_records
from paligemma2.data.formats.records import answers_of, objects_column, rows_of_files
from paligemma2.data.pictures import PictureFolder, only_picture, row_size
from paligemma2.data.rows import DataRow, OnProblem
from paligemma2.data.text_files import TextFiles, json_lines

_NAMES = ("metadata.jsonl", "metadata.csv")


def is_here(source: Path) -> bool:
    """Whether the folder or one below it has such a file, or the file is one."""
    return next(_files(source), None) is not None


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield from [source] if source.name in _NAMES else []
        return
    for name in _NAMES:
        yield from sorted(source.rglob(name))


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every metadata file; `objects` are in pixels, so their pictures must be there."""
    return rows_of_files(_files(source), source, _records, on_problem)


def _records(path: Path, on_problem: OnProblem) -> Iterator[tuple[int, dict[str, Any]]]:
    return (csv_records if path.suffix == ".csv" else json_lines)(path, on_problem)


class Writer:
    """Writes `<split>/metadata.jsonl` and the pictures beside it; objects also as a column `objects`."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._files = folder, PictureFolder(), TextFiles()

    def write(self, row: DataRow) -> None:
        """Add a line."""
        only_picture(row)
        suffix, folder = answers_of(row), self._folder / row.split
        objects = {"objects": objects_column(row, *row_size(row))} if row.objects else {}
        name = self._pictures.add(folder, row)
        record = {"file_name": name, "prefix": row.prefix, "suffix": suffix, **objects}
        self._files.write(folder / "metadata.jsonl", json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """End the files."""
        self._files.close()
