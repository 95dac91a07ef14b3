"""RSVQA, of low and of high resolution: questions about pictures from the air."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class RsvqaRecords:
    """The active questions of `<split>_questions.json` with their answers of `<split>_answers.json`.

    Attributes:
        split: "LR_split_train".
        image: ending of the pictures, which the field `img_id` names.
        without: types of questions that are left out.
    """

    split: str
    image: str
    without: tuple[str, ...] = ()

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        questions, answers = f"{self.split}_questions.json", f"{self.split}_answers.json"
        right = {}
        for number, row in enumerate(read_list(folder, answers, "answers")):
            with row_of(answers, number):
                if row["active"]:
                    right[row["id"]] = row["answer"]
        for number, row in enumerate(read_list(folder, questions, "questions")):
            with row_of(questions, number):
                if not row["active"] or row["type"] in self.without:
                    continue
                picture = f"{row['img_id']}{self.image}"
                fields = {
                    "question": row["question"],
                    "type": row["type"],
                    "answer": str(right[row["answers_ids"][0]]),
                }
                record = Record(id=str(row["id"]), pictures=(picture,), fields=fields, unit=picture)
            yield record
