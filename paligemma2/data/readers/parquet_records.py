"""Data sets as the Hugging Face hub has them: parquet files with the pictures inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import row_of
from paligemma2.data.readers.json_records import OPTION_SIGN
from paligemma2.data.readers.records import Picture, Record
from paligemma2.data.readers.tables import open_table, picture_columns
from paligemma2.types import TableCell


@dataclass(frozen=True, kw_only=True)
class ParquetRecords:
    """Rows of all files that match a pattern; pictures are read when they are opened.

    Attributes:
        files: pattern of their last parts, "DocVQA/validation-*.parquet".
        image: the column of the picture; several for several pictures.
        id: the column that names the row; "" counts the rows.
        where: only rows with these values.
        choices: as in `JsonRecords`.
    """

    files: str
    image: str | tuple[str, ...] = "image"
    id: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    choices: str = ""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        number = 0
        for path in folder.files(self.files):
            for place, row in _rows(path):
                with row_of(path.name, place):
                    if any(row[name] != value for name, value in self.where.items()):
                        continue
                    record = self._record(path, place, row, number)
                yield record
                number += 1

    def _record(self, path: Path, place: int, row: Mapping[str, Any], number: int) -> Record:
        images = (self.image,) if isinstance(self.image, str) else self.image
        options = {"options": OPTION_SIGN.join(row[self.choices])} if self.choices else {}
        return Record(
            id=str(row[self.id]) if self.id else str(number),
            pictures=tuple(_picture(path, place, image, row) for image in images),
            fields={name: value for name, value in row.items() if name not in images} | options,
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number in the file, from 0, and columns of each row, without the bytes of its pictures."""
    with open_table(path) as file:
        pictures = picture_columns(file)
        columns = [f"{name}.path" if name in pictures else name for name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield number, row
                number += 1


def _picture(path: Path, place: int, image: str, row: Mapping[str, Any]) -> Picture:
    if row[image] is None:
        return f"{path.name}, row {place}"  # a name that no picture has
    return TableCell(path, place, f"{image}.bytes")
