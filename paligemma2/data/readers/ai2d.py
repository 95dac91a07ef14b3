"""AI2D: questions about diagrams, in some of which letters stand for the labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_mapping, row_of
from paligemma2.data.readers.json_records import OPTION_SIGN
from paligemma2.data.readers.records import Record
from paligemma2.types import EditedPicture, Label


@dataclass(frozen=True, kw_only=True)
class Ai2dRecords:
    """The questions of `questions/<picture>.json`; the labels of `annotations/<picture>.json` are painted.

    A question whose `abcLabel` is true asks about letters: each text of the diagram is painted over with its
    `replacementText`. To the fields come `question`, `options` and `answer`.

    Attributes:
        is_test: the pictures that `test_ids` lists; else all others.
        test_ids: a file with a picture's number on each line.
    """

    is_test: bool
    test_ids: str = "ai2d_test_ids.csv"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        with folder.open(self.test_ids) as file:
            test = {line.strip().decode("utf-8", "replace") for line in file}
        for name in folder.names("questions/*.json"):
            path = PurePosixPath(name)
            if (path.name.split(".")[0] in test) == self.is_test:
                annotations = path.parents[1] / "annotations" / path.name
                yield from _of_picture(folder, name, annotations.as_posix())


def _of_picture(folder: DataFolder, name: str, annotations: str) -> Iterator[Record]:
    content = read_mapping(folder, name)
    with row_of(name, "questions"):
        picture, questions = content["imageName"], list(content["questions"].items())
    for question, row in questions:
        with row_of(name, question):
            labels = _labels(folder, annotations) if row["abcLabel"] else ()
            fields = {
                **row,
                "question": question,
                "options": OPTION_SIGN.join(row["answerTexts"]),
                "answer": row["answerTexts"][int(row["correctAnswer"])],
            }
            record = Record(
                id=row["questionId"],
                pictures=(EditedPicture(source=picture, labels=labels) if labels else picture,),
                fields=fields,
                unit=picture,
            )
        yield record


def _labels(folder: DataFolder, name: str) -> tuple[Label, ...]:
    texts: Mapping[str, Any] = read_mapping(folder, name)["text"]
    return tuple(_label(text) for text in texts.values())


def _label(text: Mapping[str, Any]) -> Label:
    (left, top), (right, bottom) = text["rectangle"]
    return Label(left=left, top=top, right=right, bottom=bottom, text=text["replacementText"])
