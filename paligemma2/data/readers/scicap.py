"""SciCap: captions of figures of papers, a file for each."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Record
from paligemma2.data.readers.row_files import read_json, row_of


@dataclass(frozen=True, kw_only=True)
class SciCapFigures:
    """The figures of a list: `caption`.

    Attributes:
        split: "train", "val" or "test".
        experiment: the folder of the list in `List-of-Files-for-Each-Experiments`.
        caption: which of the texts in the file of a figure.
    """

    split: str
    experiment: str = "First-Sentence/No-Subfig"
    caption: str = "1-lowercase-and-token-and-remove-figure-index"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        path = folder.file(f"List-of-Files-for-Each-Experiments/{self.experiment}/{self.split}/file_idx.json")
        texts = path.parents[4] / "SciCap-Caption-All" / self.split
        for number, name in enumerate(read_json(path)):
            with row_of(path, number):
                figure = name.removesuffix(".png")
                text = texts / f"{figure}.json"
                content = read_json(text)
                with row_of(text, figure):
                    caption = content[self.caption]["caption"]
                record = Record(id=figure, pictures=(name,), fields={"caption": caption})
            yield record
