"""The JSON files of data sets, wherever they lie, and errors that name the file and the row."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError

_HINT = "is this the data set's own file?"


def read_json(folder: DataFolder, name: str) -> Any:
    """The content of a JSON file; see `DataFolder.open`.

    Raises:
        DataError: it is not there, or no JSON.
    """
    try:
        with folder.open(name) as file:
            return json.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name} cannot be read: {error}", hint="download it again") from error


def read_list(folder: DataFolder, name: str, key: str = "") -> list[Any]:
    """The list that a JSON file is, or holds under a key.

    Raises:
        DataError: there is no such list.
    """
    content = read_json(folder, name)
    rows = content.get(key) if key and isinstance(content, dict) else content
    if not isinstance(rows, list):
        where = f" under {key!r}" if key else ""
        raise DataError(f"{name} holds no list{where}", hint=_HINT)
    return rows


def read_mapping(folder: DataFolder, name: str) -> dict[str, Any]:
    """The object that a JSON file is.

    Raises:
        DataError: it is something else.
    """
    content = read_json(folder, name)
    if not isinstance(content, dict):
        raise DataError(f"{name} holds no rows by their names", hint=_HINT)
    return content


def read_lines(folder: DataFolder, name: str) -> Iterator[Any]:
    """The JSON of each line that is not empty; read line by line.

    Raises:
        DataError: the file is not there, or a line is no JSON.
    """
    number = 0
    try:
        with folder.open(name) as file:
            for line in file:
                number += 1
                if line.strip():
                    yield json.loads(line)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name}, near line {number}, cannot be read: {error}", hint=_HINT) from error


@contextmanager
def row_of(name: str, row: object) -> Iterator[None]:
    """Within it, what is wrong with a row becomes an error that names file and row.

    Raises:
        DataError: in place of an error about a missing field, or a value of another kind.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{name}, row {row}, cannot be used: {what}", hint=_HINT) from error
