"""A JSON file that is a list of objects, or holds one."""

from collections.abc import Sequence
from typing import Any

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files, Rows
from paligemma2.data.readers.json_records import JsonRecords


def write(files: Files, reader: JsonRecords, contents: Sequence[Content]) -> None:
    """One row for each question, or for each picture that is only described."""
    rows = rows_in(files, reader.file, reader.rows)
    for content in contents:
        name = f"{content.number:012d}.jpg"
        files.picture(f"images/{name}", content.pictures[0])
        for place, fields in enumerate(fields_of(content)):
            number = {reader.id: content.number * 10 + place} if reader.id else {}
            rows.append({**number, reader.image: name, **fields, **reader.where})


def rows_in(files: Files, name: str, place: str) -> Rows:
    """The list that a JSON file is, or that it has at a place."""
    if not place:
        return files.rows(name)
    rows: Rows = files.table(name).setdefault(place, [])
    return rows


def fields_of(content: Content) -> list[dict[str, Any]]:
    """The plain fields of each question about a picture, or of its captions."""
    if not content.asked:
        return [{"captions": list(content.captions["en"])}]
    return [
        {
            "question": each.question,
            "answer": each.answer,
            "answers": [each.answer],
            "choices": list(each.choices),
        }
        for each in content.asked
    ]
