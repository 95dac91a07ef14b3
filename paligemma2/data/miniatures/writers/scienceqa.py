"""ScienceQA: one file with the problems of all splits, and a folder for the picture of each."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.scienceqa import ScienceQaRecords

_PICTURE = "image.png"
_MOST_QUESTIONS = 10


def write(files: Files, reader: ScienceQaRecords, contents: Sequence[Content]) -> None:
    """The problems of one split, every other one with a hint."""
    problems = files.table(reader.file)
    for content in contents:
        for place, asked in enumerate(content.asked):
            key = str(content.number * _MOST_QUESTIONS + place)
            files.picture(f"images/{reader.split}/{key}/{_PICTURE}", content.pictures[0])
            problems[key] = {
                "question": asked.question,
                "choices": list(asked.choices),
                "answer": asked.choices.index(asked.answer),
                "hint": "Look at the picture." if content.number % 2 else "",
                "image": _PICTURE,
                "split": reader.split,
            }
