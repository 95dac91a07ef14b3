"""VQA's format, of VQAv2 and OK-VQA: a file of questions and one of answers."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.json_records import picture_names
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class QuestionRecords:
    """Questions in the order of their file, each with the fields of its annotation.

    Attributes:
        questions: the file with `questions`, each with `question_id`, `image_id` and `question`.
        annotations: the file with `annotations`, each with `question_id` and `answers`; "" where only a
            server knows them.
        image: name of the picture, with fields in braces.
    """

    questions: str
    image: str
    annotations: str = ""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        questions = read_list(folder, self.questions, "questions")
        answers = {}
        if self.annotations:
            for number, row in enumerate(read_list(folder, self.annotations, "annotations")):
                with row_of(self.annotations, number):
                    answers[row["question_id"]] = row
        for number, row in enumerate(questions):
            with row_of(self.questions, number):
                pictures = picture_names(self.image, row)
                fields = {**answers[row["question_id"]], **row} if self.annotations else row
                record = Record(
                    id=str(row["question_id"]), pictures=pictures, fields=fields, unit=pictures[0]
                )
            yield record
