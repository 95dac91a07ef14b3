"""RSVQA: files of questions, of answers and of pictures for each split."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.rsvqa import RsvqaRecords

_TYPES = ("comp", "presence")


def write(files: Files, reader: RsvqaRecords, contents: Sequence[Content]) -> None:
    """The questions of one split; half of them count as comparisons, so that both types have some."""
    questions, answers, images = (
        files.table(f"{reader.split}_{name}.json", **{name: []})[name]
        for name in ("questions", "answers", "images")
    )
    for content in contents:
        files.picture(f"images/{content.number}{reader.image}", content.pictures[0])
        images.append({"id": content.number, "active": True})
        for place, asked in enumerate(content.asked):
            number = content.number * 10 + place
            questions.append(
                {
                    "id": number,
                    "img_id": content.number,
                    "type": _TYPES[content.number // 2 % 2],
                    "question": asked.question,
                    "answers_ids": [number],
                    "active": True,
                }
            )
            answers.append({"id": number, "question_id": number, "answer": asked.answer, "active": True})
