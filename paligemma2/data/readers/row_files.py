"""Tables and lists of data sets as plain text, wherever they lie."""

import csv
import io
from collections.abc import Iterator, Mapping

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError

_AGAIN = "download it again"


def csv_rows(folder: DataFolder, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Number, from 1, and fields of each row of a table with a head.

    Raises:
        DataError: the file is not there or cannot be read.
    """
    try:
        with folder.open(name) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield from enumerate(csv.DictReader(text), start=1)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise DataError(f"{name} cannot be read: {error}", hint=_AGAIN) from error


def text_lines(folder: DataFolder, name: str) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        DataError: the file is not there or cannot be read.
    """
    try:
        with folder.open(name) as file:
            text = file.read().decode("utf-8")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name} cannot be read: {error}", hint=_AGAIN) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
