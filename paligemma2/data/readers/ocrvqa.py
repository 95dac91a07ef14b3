"""OCR-VQA: several questions about each cover of a book."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_mapping, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class OcrVqaRecords:
    """An object for each book, with `questions`, `answers` and `split`; its key names the picture.

    Attributes:
        split: 1 is training, 2 validation, 3 test.
        file: its name.
    """

    split: int
    file: str = "dataset.json"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for key, book in read_mapping(folder, self.file).items():
            with row_of(self.file, key):
                if book["split"] != self.split:
                    continue
                pairs = list(zip(book["questions"], book["answers"], strict=True))
                about = {name: book[name] for name in ("title", "genre") if name in book}
            for number, (question, answer) in enumerate(pairs):
                fields = {**about, "question": question, "answer": answer}
                yield Record(id=f"{key}-{number}", pictures=(key,), fields=fields, unit=key)
