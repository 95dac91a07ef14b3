from pathlib import Path

import pytest

from paligemma2.data.readers.ai2d import Ai2dRecords
from paligemma2.errors import DataError
from paligemma2.types import EditedPicture, Label
from tests.data.readers.small_files import folder_with


def question(number: str, is_abc: bool) -> dict[str, object]:
    texts = ["one", "two", "three", "four"]
    return {"questionId": number, "answerTexts": texts, "correctAnswer": 2, "abcLabel": is_abc}


FILES = {
    "ai2d_test_ids.csv": "2\n",
    "questions/1.png.json": {
        "imageName": "1.png",
        "questions": {"What is A?": question("1.png-0", True), "How many?": question("1.png-1", False)},
    },
    "annotations/1.png.json": {
        "text": {"T0": {"rectangle": [[1, 2], [30, 12]], "replacementText": "A", "value": "leaf"}}
    },
    "questions/2.png.json": {"imageName": "2.png", "questions": {"Which?": question("2.png-0", False)}},
}


def test_letters_are_painted_for_questions_about_them(tmp_path: Path) -> None:
    first, second = Ai2dRecords(is_test=False).read(folder_with(tmp_path, FILES))
    label = Label(left=1, top=2, right=30, bottom=12, text="A")
    assert first.pictures == (EditedPicture(source="1.png", labels=(label,)),)
    assert second.pictures == ("1.png",)
    assert (first.fields["question"], first.fields["answer"]) == ("What is A?", "three")
    assert first.fields["options"] == "one \t two \t three \t four"


def test_the_list_of_the_test_set_decides(tmp_path: Path) -> None:
    (only,) = Ai2dRecords(is_test=True).read(folder_with(tmp_path, FILES))
    assert only.id == "2.png-0"


def test_missing_and_malformed_annotations_are_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, FILES)
    (tmp_path / "annotations/1.png.json").write_text('{"text": {"T0": {"rectangle": [[1, 2]]}}}')
    with pytest.raises(DataError, match=r"questions/1\.png\.json, row What is A"):
        list(Ai2dRecords(is_test=False).read(folder))
    (tmp_path / "annotations/1.png.json").unlink()
    with pytest.raises(DataError, match=r"1\.png\.json"):
        list(Ai2dRecords(is_test=False).read(folder_with(tmp_path, {})))
