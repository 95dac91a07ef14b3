"""The encoded bytes of pictures inside of larger files: tar shards, zip archives, parquet tables."""

import threading
import zlib
from typing import Any

from paligemma2.errors import ImageError
from paligemma2.optional import require
from paligemma2.types import FilePart, TableCell

_MOVED = "the file may have been moved or cut short; make or fetch it again"
# A table is read in groups of rows: pictures in a row come out of the same group, which each thread keeps.
_group = threading.local()


def read_part(part: FilePart, max_bytes: int) -> bytes:
    """The bytes of a part of a file, decompressed where they are deflated.

    Args:
        part: where they stand.
        max_bytes: limit on what comes out, checked before it is read or decompressed.

    Raises:
        ImageError: the file is missing, cut short or damaged, or the limit is passed.
    """
    name = f"{part.path}, {part.size} bytes at {part.offset}"
    _check(part.size, name, max_bytes)
    try:
        with part.path.open("rb") as file:
            file.seek(part.offset)
            data = file.read(part.size)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error})", hint=_MOVED) from error
    if len(data) < part.size:
        raise ImageError(f"{name}: the file ends before", hint=_MOVED)
    return _inflate(data, name, max_bytes) if part.is_deflated else data


def read_cell(cell: TableCell, max_bytes: int) -> bytes:
    """The bytes in a cell of a parquet file.

    Args:
        cell: which one; pictures of the same group of rows are read together, once for each thread.
        max_bytes: limit on the bytes.

    Raises:
        ImageError: the file is missing or damaged, or has no such cell, or the limit is passed.
        MissingExtra: pyarrow is not installed.
    """
    name = f"{cell.path}, row {cell.row} of {cell.column}"
    kept = getattr(_group, "value", None)
    if kept is None or kept[:2] != (cell.path, cell.column) or not kept[2] <= cell.row < kept[3]:
        kept = _group.value = (cell.path, cell.column, *_read_group(cell, name))
    data = kept[4][cell.row - kept[2]].as_py()
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: there is no picture", hint="give a column with encoded pictures")
    _check(len(data), name, max_bytes)
    return data


def _read_group(cell: TableCell, name: str) -> tuple[int, int, Any]:
    """First row, the row to end before, and the values between, of the group with the cell."""
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    try:
        with parquet.ParquetFile(cell.path) as file:
            first = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                if cell.row < first + count:
                    return first, first + count, _column(file.read_row_group(number, [cell.column]))
                first += count
    except (arrow.ArrowException, OSError, ValueError, LookupError) as error:
        raise ImageError(f"{name}: cannot be read ({error})", hint=_MOVED) from error
    raise ImageError(f"{name}: the file has {first} rows", hint=_MOVED)


def _column(table: Any) -> Any:
    """The only leaf of a table that was read with one nested column."""
    values = table.column(0).combine_chunks()
    while hasattr(values, "field"):
        values = values.field(0) if values.null_count == 0 else values.flatten()[0]
    return values


def _inflate(data: bytes, name: str, max_bytes: int) -> bytes:
    machine = zlib.decompressobj(-zlib.MAX_WBITS)  # zip files hold the bare stream
    try:
        found = machine.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise ImageError(f"{name}: damaged ({error})", hint=_MOVED) from error
    _check(len(found), name, max_bytes)
    if not machine.eof:
        raise ImageError(f"{name}: the compressed picture is cut short", hint=_MOVED)
    return found


def _check(size: int, name: str, limit: int) -> None:
    if size > limit:
        raise ImageError(f"{name}: {size} bytes, the limit is {limit}", hint="make the picture smaller")
