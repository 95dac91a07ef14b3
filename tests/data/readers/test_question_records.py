from pathlib import Path

import pytest

from paligemma2.data.readers.question_records import QuestionRecords
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with

QUESTIONS = [
    {"image_id": 9, "question": "who?", "question_id": 91},
    {"image_id": 9, "question": "how?", "question_id": 90},
]
ANSWERS = [{"question_id": 90 + n, "answer_type": "other", "answers": [{"answer": str(n)}]} for n in (0, 1)]
READER = QuestionRecords(questions="q.json", annotations="a.json", image="COCO_{image_id:012d}.jpg")


def test_questions_get_their_answers_in_the_order_of_the_questions(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"q.json": {"questions": QUESTIONS}, "a.json": {"annotations": ANSWERS}})
    first, second = READER.read(folder)
    assert (first.id, second.id) == ("91", "90")
    assert first.fields["answers"] == [{"answer": "1"}]
    assert first.pictures == ("COCO_000000000009.jpg",)
    assert first.unit == second.unit


def test_a_split_without_answers(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"q.json": {"questions": QUESTIONS}})
    reader = QuestionRecords(questions="q.json", image="{image_id}.jpg")
    assert [each.fields for each in reader.read(folder)] == QUESTIONS


def test_a_question_without_annotation_is_told(tmp_path: Path) -> None:
    files = {"q.json": {"questions": QUESTIONS}, "a.json": {"annotations": ANSWERS[:1]}}
    with pytest.raises(DataError, match=r"q\.json, row 0, cannot be used: no field 91"):
        list(READER.read(folder_with(tmp_path, files)))
