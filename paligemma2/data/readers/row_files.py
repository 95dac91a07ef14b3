"""Files of rows, and errors that name the row."""

import bz2
import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError, InputError

_AGAIN = "download it again"


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def read_rows(path: Path, key: str = "") -> list[Any]:
    """The list that a JSON file is, or holds under a key.

    Raises:
        DataError: there is no such list.
    """
    content = read_json(path)
    rows = content.get(key) if key and isinstance(content, dict) else None if key else content
    if not isinstance(rows, list):
        where = f" under {key!r}" if key else ""
        raise DataError(f"{path} holds no list{where}", hint="is this the data set's own file?")
    return rows


def json_lines(path: Path, containing: str = "") -> Iterator[tuple[int, Any]]:
    """Number, from 1, and content of each line of a file, plain or compressed (.gz, .bz2).

    Args:
        path: the file; it is read line by line.
        containing: only lines with this text are given, which saves reading the others.

    Raises:
        DataError: the file cannot be read, or a line is no JSON.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if containing in line and line.strip():
                    yield number, json.loads(line)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}, near line {number}, cannot be read: {error}", hint=_AGAIN) from error


def csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Number, from 1, and fields of each row of a table with a head.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from enumerate(csv.DictReader(file), start=1)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def text_lines(path: Path) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def plain_or_compressed(folder: DataFolder, name: str) -> Path:
    """A file as it was downloaded or unpacked: `name`, `name.bz2` or `name.gz`.

    Raises:
        DataError: none is there.
    """
    for ending in ("", ".bz2", ".gz"):
        try:
            return folder.file(name + ending)
        except DataError as error:
            missing = error
    raise DataError(f"neither {name} nor {name}.bz2 is in {folder.root}", hint=missing.hint)


@contextmanager
def row_of(path: Path, row: object) -> Iterator[None]:
    """Within it, what is wrong with a row becomes an error that names file and row.

    Raises:
        DataError: in place of any error about a missing key or a value of another kind.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, InputError) as error:
        if isinstance(error, DataError):
            raise
        what = f"no field {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"{path}, row {row}, cannot be used: {what}", hint="is this the data set's own file?"
        ) from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".bz2":
        return bz2.open(path, "rt", encoding="utf-8")
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
