"""CountBench with the questions that PaliGemma's authors wrote for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.records import Record
from paligemma2.data.readers.tables import open_table
from paligemma2.types import TableCell


@dataclass(frozen=True, kw_only=True)
class CountBenchRecords:
    """Rows of a parquet file, in the order of the questions; rows without a picture are named by its address.

    Attributes:
        table: pattern of its name; columns `image`, `number`, `image_url`.
        questions: file of the questions.
    """

    table: str = "train-*.parquet"
    questions: str = "countbench_paired_questions.json"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        questions = read_list(folder, self.questions)
        path, number = folder.files(self.table)[0], 0
        with open_table(path) as file:
            for batch in file.iter_batches(columns=["number", "image_url", "image.path"]):
                for row in batch.to_pylist():
                    with row_of(path.name, number):
                        has_picture = row["image"] is not None
                        cell = TableCell(path, number, "image.bytes")
                        record = Record(
                            id=str(number),
                            pictures=(cell if has_picture else row["image_url"],),
                            fields={"question": questions[number]["question"], "number": row["number"]},
                        )
                    yield record
                    number += 1
