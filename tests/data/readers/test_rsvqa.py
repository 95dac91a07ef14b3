from pathlib import Path

import pytest

from paligemma2.data.readers.rsvqa import RsvqaRecords
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with

QUESTIONS = [
    {"id": 0, "active": False},
    {"id": 1, "img_id": 5, "type": "comp", "question": "More?", "answers_ids": [11], "active": True},
    {"id": 2, "img_id": 5, "type": "count", "question": "How many?", "answers_ids": [12], "active": True},
]
ANSWERS = [
    {"id": 10, "active": False},
    {"id": 12, "question_id": 2, "answer": "3", "active": True},
    {"id": 11, "question_id": 1, "answer": "yes", "active": True},
]


def files(answers: object) -> dict[str, object]:
    return {"s_questions.json": {"questions": QUESTIONS}, "s_answers.json": {"answers": answers}}


def test_active_questions_of_the_wanted_types(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, files(ANSWERS))
    (only,) = RsvqaRecords(split="s", image=".tif", without=("count",)).read(folder)
    assert only.pictures == ("5.tif",)
    assert only.fields == {"question": "More?", "type": "comp", "answer": "yes"}
    assert len(list(RsvqaRecords(split="s", image=".tif").read(folder))) == 2


def test_a_missing_answer_is_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, files(ANSWERS[:2]))
    with pytest.raises(DataError, match=r"s_questions\.json, row 1"):
        list(RsvqaRecords(split="s", image=".tif").read(folder))
