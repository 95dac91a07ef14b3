"""SciCap: captions of figures of papers, a file for each."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_json, read_list, row_of
from paligemma2.data.readers.records import Record


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
        listed = f"List-of-Files-for-Each-Experiments/{self.experiment}/{self.split}/file_idx.json"
        # With its folders, a name leads to one of the 400,000 files without a search.
        above = next(iter(folder.names(listed)), listed).removesuffix(listed)
        for number, name in enumerate(read_list(folder, above + listed)):
            with row_of(listed, number):
                figure = name.removesuffix(".png")
            text = f"{above}SciCap-Caption-All/{self.split}/{figure}.json"
            content = read_json(folder, text)
            with row_of(text, figure):
                caption = content[self.caption]["caption"]
            yield Record(id=figure, pictures=(name,), fields={"caption": caption})
