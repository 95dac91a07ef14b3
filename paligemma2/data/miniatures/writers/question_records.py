"""VQA's format: a file of questions and one of answers."""

from collections.abc import Sequence
from typing import Any

from paligemma2.data.miniatures.content import Asked, Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.question_records import QuestionRecords

_PEOPLE = 10
_TYPES = {"exists": "yes/no", "count_all": "number", "count_color": "number", "count_shape": "number"}


def write(files: Files, reader: QuestionRecords, contents: Sequence[Content]) -> None:
    """The questions of one split, and what ten people answered where the reader reads it."""
    questions = files.table(reader.questions, questions=[])["questions"]
    annotations = files.table(reader.annotations, annotations=[])["annotations"] if reader.annotations else []
    for content in contents:
        picture = {"image_id": content.number}
        files.picture(f"images/{reader.image.format_map(picture)}", content.pictures[0])
        for place, asked in enumerate(content.asked):
            number = {"question_id": content.number * 1000 + place}
            questions.append({**picture, **number, "question": asked.question})
            annotations.append({**picture, **number, **_annotation(asked)})


def _annotation(asked: Asked) -> dict[str, Any]:
    answer = {"answer": asked.answer, "raw_answer": asked.answer, "answer_confidence": "yes"}
    return {
        "question_type": "what",
        "answer_type": _TYPES.get(asked.kind, "other"),
        "multiple_choice_answer": asked.answer,
        "answers": [{**answer, "answer_id": person} for person in range(1, _PEOPLE + 1)],
    }
