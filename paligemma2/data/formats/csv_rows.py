"""Plain CSV with a line of names: `image`, `prefix` and `suffix`, and `split` where a file holds several."""

import csv
from collections.abc import Iterator
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

from paligemma2.data.formats.records import rows_of_files, suffix_of
from paligemma2.data.pictures import PictureFolder, only_picture
from paligemma2.data.rows import DataRow, OnProblem, UnusableRow
from paligemma2.data.text_files import TextFiles, open_bytes

_COLUMNS = ("image", "prefix", "suffix")


def is_here(source: Path) -> bool:
    """Whether the folder has such files, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".csv" else []
    return sorted(source.glob("*.csv"))


def csv_records(path: Path, on_problem: OnProblem) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a CSV file by the names in its first line, with the line that each ends in.

    A record that is not UTF-8, or has more or fewer fields than names, is skipped and reported.

    Raises:
        DataError: the file cannot be read.
    """
    # Bytes that are not UTF-8 become surrogates, so that they cost their record and not the file.
    with TextIOWrapper(open_bytes(path), "utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True)
        names: list[str] | None = None
        while True:
            try:
                fields = next(lines, None)
                if fields is None:
                    return
                if names is None:
                    names = fields
                elif fields:
                    yield lines.line_num, _record(names, fields)
            except csv.Error as error:
                on_problem(UnusableRow("not CSV", str(error)).problem(path, lines.line_num))
            except UnusableRow as problem:
                on_problem(problem.problem(path, lines.line_num))


def _record(names: list[str], fields: list[str]) -> dict[str, Any]:
    if len(fields) != len(names):
        raise UnusableRow("a record has too many or too few fields", f"{len(fields)} for {len(names)} names")
    if any("\udc80" <= sign <= "\udcff" for field in fields for sign in field):
        raise UnusableRow("the line is not UTF-8")
    return dict(zip(names, fields, strict=True))


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every file; pictures are named relative to it."""
    return rows_of_files(_files(source), source, csv_records, on_problem)


def _line(fields: tuple[str, ...]) -> str:
    text = StringIO()
    csv.writer(text).writerow(fields)
    return text.getvalue()


class Writer:
    """Writes `<split>.csv`, and the pictures into `images`."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._files = folder, PictureFolder(), TextFiles()

    def write(self, row: DataRow) -> None:
        """Add a record."""
        only_picture(row)
        suffix = suffix_of(row)
        name = self._pictures.add(self._folder / "images", row)
        record = _line((f"images/{name}", row.prefix, suffix))
        self._files.write(self._folder / f"{row.split}.csv", record, first=_line(_COLUMNS))

    def close(self) -> None:
        """End the files."""
        self._files.close()
