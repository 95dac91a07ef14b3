"""Data sets whose files are lists of JSON objects."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Record
from paligemma2.errors import DataError


@dataclass(frozen=True, kw_only=True)
class JsonRecords:
    """A JSON file that is a list of objects, or holds one under `rows`.

    Attributes:
        file: its name.
        image: the field that names the picture.
        id: the field that names the row; "" counts the rows.
        rows: the field of the list; "" where the file is the list.
        where: only rows with these values.
    """

    file: str
    image: str = "image"
    id: str = ""
    rows: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        path = folder.file(self.file)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = content[self.rows] if self.rows else content
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{path} cannot be read: {error}", hint="download it again") from error
        for number, row in enumerate(rows):
            if all(row.get(name) == value for name, value in self.where.items()):
                yield Record(
                    id=str(row[self.id]) if self.id else str(number),
                    pictures=(row[self.image],),
                    fields=row,
                    unit=str(row[self.image]),
                )
