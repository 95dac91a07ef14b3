"""Parquet files with pictures inside, as Hugging Face's `datasets` stores them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paligemma2.errors import DataError
from paligemma2.optional import require
from paligemma2.types import TableCell

_EXTRA = "parquet"
_ROWS = 1024


@contextmanager
def open_table(path: Path) -> Iterator[Any]:
    """The `pyarrow.parquet.ParquetFile` of a path.

    Raises:
        DataError: it is damaged, or lacks what is read from it.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", extra=_EXTRA), require("pyarrow.parquet", extra=_EXTRA)
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (arrow.ArrowException, OSError, LookupError) as error:
        raise DataError(
            f"{path} is damaged or not the right parquet file: {error}", hint="make or fetch it again"
        ) from error


def picture_columns(file: Any) -> list[str]:
    """Names of the columns with pictures: structures of `bytes` and `path`."""
    arrow = require("pyarrow", extra=_EXTRA)
    return [
        column.name
        for column in file.schema_arrow
        if arrow.types.is_struct(column.type)
        and {"bytes", "path"} <= {column.type.field(i).name for i in range(column.type.num_fields)}
    ]


def picture_names(path: Path) -> Iterator[tuple[str, TableCell]]:
    """The file name that stands beside each picture, and where the picture is; only names are read.

    Raises:
        DataError, MissingExtra: as `open_table`.
    """
    with open_table(path) as file:
        for column in picture_columns(file):
            row = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=[f"{column}.path"]):
                for value in batch.column(0).to_pylist():
                    if value and value["path"]:
                        yield value["path"], TableCell(path, row, f"{column}.bytes")
                    row += 1
