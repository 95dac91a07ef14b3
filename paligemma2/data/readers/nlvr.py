"""NLVR2: sentences about two pictures."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_lines, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class NlvrRecords:
    """An object on each line, with `identifier`, `sentence` and `label`.

    The pictures of "dev-850-0-1" are "dev-850-0-img0.png" (left) and "dev-850-0-img1.png" (right).

    Attributes:
        file: its name.
    """

    file: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for number, row in enumerate(read_lines(folder, self.file)):
            with row_of(self.file, number):
                stem, _, _ = row["identifier"].rpartition("-")
                pictures = (f"{stem}-img0.png", f"{stem}-img1.png")
                record = Record(id=row["identifier"], pictures=pictures, fields=row, unit=stem)
            yield record
