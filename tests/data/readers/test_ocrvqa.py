from pathlib import Path

import pytest

from paligemma2.data.readers.ocrvqa import OcrVqaRecords
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with

BOOK = {"title": "T", "questions": ["Who?", "What?"], "answers": ["A", "B"], "split": 1}


def test_each_question_of_a_book_is_a_row(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"dataset.json": {"0140": BOOK, "0150": {**BOOK, "split": 3}}})
    rows = list(OcrVqaRecords(split=1).read(folder))
    assert [(each.id, each.fields["question"], each.fields["answer"]) for each in rows] == [
        ("0140-0", "Who?", "A"),
        ("0140-1", "What?", "B"),
    ]
    assert {each.unit for each in rows} == {"0140"}
    assert rows[0].pictures == ("0140",)


def test_questions_without_answers_are_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"dataset.json": {"0140": {**BOOK, "answers": ["A"]}}})
    with pytest.raises(DataError, match=r"dataset\.json, row 0140"):
        list(OcrVqaRecords(split=1).read(folder))
