"""Parquet files with columns `image` (bytes, a path, or a structure of both), `prefix` and `suffix`.

The pictures are inside, as Hugging Face's `datasets` stores them; a path alone is relative to the file.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paligemma2.data.formats.records import row_of_record, suffix_of
from paligemma2.data.pictures import only_picture, picture_bytes
from paligemma2.data.rows import DataRow, OnProblem, UnusableRow, split_of_file
from paligemma2.errors import DataError
from paligemma2.optional import require

_EXTRA = "parquet"
_READ_ROWS = 32
_GROUP_BYTES = 32 * 1024 * 1024
_GROUP_ROWS = 1000
# What `datasets` reads to know that the column is a picture.
_FEATURES = {
    "image": {"_type": "Image"},
    "prefix": {"dtype": "string", "_type": "Value"},
    "suffix": {"dtype": "string", "_type": "Value"},
    "id": {"dtype": "string", "_type": "Value"},
}


def is_here(source: Path) -> bool:
    """Whether the folder or one below it has such files, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".parquet" else []
    return sorted(source.rglob("*.parquet"))


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every file, a few at a time; `line` is the number of the row in its file.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: a file is not parquet, or is damaged.
    """
    for path in _files(source):
        split = split_of_file(path, source)
        for line, record in _records(path):
            try:
                yield row_of_record(
                    record,
                    file=path,
                    line=line,
                    split=split,
                    folder=path.parent,
                    on_problem=on_problem,
                    images=pictures_of(record, path.parent),
                )
            except UnusableRow as problem:
                on_problem(problem.problem(path, line))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    arrow, parquet = require("pyarrow", extra=_EXTRA), require("pyarrow.parquet", extra=_EXTRA)
    line = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS):
                for record in batch.to_pylist():
                    line += 1
                    yield line, record
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is damaged or not parquet: {error}", hint="make or fetch it again"
        ) from error


def pictures_of(record: Mapping[str, Any], folder: Path) -> tuple[bytes | Path, ...]:
    """The pictures of a row, in its column `image` or `images`: bytes, or paths below `folder`.

    Raises:
        UnusableRow: there is none.
    """
    stated = record.get("image", record.get("images"))
    found = [_image(one, folder) for one in (stated if isinstance(stated, list) else [stated])]
    if not found:
        raise UnusableRow("the row has no picture")
    return tuple(found)


def _image(stated: Any, folder: Path) -> bytes | Path:
    if isinstance(stated, dict):
        stated = stated.get("bytes") or stated.get("path")
    if isinstance(stated, bytes) and stated:
        return stated
    if isinstance(stated, str) and stated:
        return folder / stated
    raise UnusableRow("the row has no picture", f"image is {stated!r}")


class Writer:
    """Writes `<split>.parquet` with the pictures inside, in groups of some megabytes."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder = folder
        self._arrow, self._parquet = (
            require("pyarrow", extra=_EXTRA),
            require("pyarrow.parquet", extra=_EXTRA),
        )
        self._files: dict[str, Any] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._bytes: dict[str, int] = {}

    def write(self, row: DataRow) -> None:
        """Add a row."""
        data, suffix = picture_bytes(only_picture(row))
        record = {
            "image": {"bytes": data, "path": f"{_file_stem(row)}{suffix}"},
            "prefix": row.prefix,
            "suffix": suffix_of(row),
            "id": row.id,
        }
        self._waiting.setdefault(row.split, []).append(record)
        self._bytes[row.split] = self._bytes.get(row.split, 0) + len(data)
        if self._bytes[row.split] > _GROUP_BYTES or len(self._waiting[row.split]) >= _GROUP_ROWS:
            self._flush(row.split)

    def _flush(self, split: str) -> None:
        table = self._arrow.Table.from_pylist(self._waiting.pop(split), schema=self._schema())
        self._bytes[split] = 0
        if split not in self._files:
            path = self._folder / f"{split}.parquet"
            self._files[split] = self._parquet.ParquetWriter(path, table.schema)
        self._files[split].write_table(table)

    def _schema(self) -> Any:
        arrow = self._arrow
        image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        texts = [(name, arrow.string()) for name in ("prefix", "suffix", "id")]
        metadata = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
        return arrow.schema([("image", image), *texts], metadata=metadata)

    def close(self) -> None:
        """Write what waits, and end the files."""
        for split in list(self._waiting):
            self._flush(split)
        for file in self._files.values():
            file.close()


def _file_stem(row: DataRow) -> str:
    image = row.images[0]
    return Path(image).stem if isinstance(image, str | Path) else row.id
