"""Data sets with a row for each caption, of which those of a picture belong together."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class CaptionRows:
    """A JSON file with a list of rows: all texts of each picture, in the order in which pictures first come.

    Attributes:
        file: its name.
        rows: the field of the list.
        image: the field that tells rows of one picture, and names it.
        caption: the field of the text, and then of the list of them; where rows have none, as where only a
            server knows the captions, a picture has one that is empty.
    """

    file: str
    rows: str = "data"
    image: str = "image_name"
    caption: str = "caption_str"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        captions: dict[str, list[str]] = {}
        for number, row in enumerate(read_list(folder, self.file, self.rows)):
            with row_of(self.file, number):
                texts = captions.setdefault(str(row[self.image]), [])
                if row.get(self.caption):
                    texts.append(row[self.caption])
        for name, texts in captions.items():
            yield Record(id=name, pictures=(name,), fields={self.caption: texts or [""]})
