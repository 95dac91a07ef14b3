"""TextVQA: questions about text in pictures of Open Images, some of which lie on their side."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.records import Record
from paligemma2.errors import DataError
from paligemma2.types import EditedPicture


@dataclass(frozen=True, kw_only=True)
class TextVqaRecords:
    """Rows under `data`, with `question_id`, `image_id` and `question`; pictures are turned upright.

    Attributes:
        file: its name.
        rotations: the table of Open Images with `ImageID` and `Rotation`, in degrees counter-clockwise.
    """

    file: str
    rotations: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        rows = read_list(folder, self.file, "data")
        turns = _quarter_turns(folder, self.rotations)
        for number, row in enumerate(rows):
            with row_of(self.file, number):
                name = f"{row['image_id']}.jpg"
                turn = turns.get(row["image_id"], 0)
                picture = EditedPicture(source=name, quarter_turns=turn) if turn else name
                record = Record(id=str(row["question_id"]), pictures=(picture,), fields=row, unit=name)
            yield record


def _quarter_turns(folder: DataFolder, name: str) -> dict[str, int]:
    """Of the pictures that are not upright; the table is read line by line, for it has millions."""
    turns = {}
    try:
        with io.TextIOWrapper(folder.open(name), encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if degrees := float(row["Rotation"] or 0):
                    turns[row["ImageID"]] = round(degrees / 90) % 4
    except (KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"{name} is not Open Images' table of rotations: {error!r}", hint="download it again"
        ) from error
    return turns
