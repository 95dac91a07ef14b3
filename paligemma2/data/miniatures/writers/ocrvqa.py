"""OCR-VQA: one file with the books of all splits."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.ocrvqa import OcrVqaRecords


def write(files: Files, reader: OcrVqaRecords, contents: Sequence[Content]) -> None:
    """The books of one split."""
    books = files.table(reader.file)
    for content in contents:
        key = f"{content.number:010d}"
        files.picture(f"images/{key}.jpg", content.pictures[0])
        books[key] = {
            "imageURL": f"https://example.org/{key}.jpg",
            "title": content.captions["en"][0],
            "authorName": "",
            "genre": "Shapes",
            "questions": [each.question for each in content.asked],
            "answers": [each.answer for each in content.asked],
            "split": reader.split,
        }
