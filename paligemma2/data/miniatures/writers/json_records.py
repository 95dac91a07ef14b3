"""JSON files with an object for each row: as a list, on lines, or by their names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from paligemma2.data.miniatures.content import Asked, Content
from paligemma2.data.miniatures.files import Encoder, Files, Rows, json_lines
from paligemma2.data.miniatures.row_names import AnswerField, RowNames
from paligemma2.data.readers.json_records import JsonRecords, picture_names

_PEOPLE = 10
_MOST_QUESTIONS = 10
_META: Mapping[str, Any] = {
    "difficult_direct_answer": False,  # of A-OKVQA; all others are of GQA
    "isBalanced": True,
    "types": {"structural": "query", "semantic": "attr", "detailed": "what"},
    "groups": {"global": None, "local": None},
    "semantic": [{"operation": "select", "argument": "shape", "dependencies": []}],
}
"""What metrics read beside answers, the same for all questions."""


def write(files: Files, reader: JsonRecords, contents: Sequence[Content], names: RowNames) -> None:
    """One row for each question, or for each picture that is only described."""
    table = files.table(reader.file) if reader.layout == "mapping" else {}
    lines = json_lines if reader.layout == "lines" else None
    rows = [] if reader.layout == "mapping" else rows_in(files, reader.file, reader.rows, lines)
    for content in contents:
        pictures = _picture_fields(reader, content)
        for name, pixels in zip(picture_names(reader.image, pictures), content.pictures, strict=True):
            files.picture(name.lstrip("/") if "/" in name else f"images/{name}", pixels)
        for place, fields in enumerate(_fields(reader, content, names)):
            number = content.number * _MOST_QUESTIONS + place
            row = {**pictures, **fields, **reader.where}
            table[str(number)] = row
            rows.append({reader.id: number, **row} if reader.id else row)


def rows_in(files: Files, name: str, place: str, encode: Encoder | None = None) -> Rows:
    """The list that a JSON file is, or that it has at a place."""
    if not place:
        return files.rows(name, encode)
    rows: Rows = files.table(name).setdefault(place, [])
    return rows


def _picture_fields(reader: JsonRecords, content: Content) -> dict[str, Any]:
    """The fields that name the pictures: the names, or what names are made of ("{image_id:012d}.jpg")."""
    fields: dict[str, Any] = {}
    for side, text in enumerate((reader.image,) if isinstance(reader.image, str) else reader.image):
        if "{" not in text:
            fields[text] = f"{content.number:012d}-{side}.jpg"
            continue
        places = [(name, form) for _, name, form, _ in Formatter().parse(text) if name]
        for name, form in places:
            fields[name] = content.number if form else str(content.number)
        if "language" in fields:
            fields["language"] = _language(reader.file)
        if text.endswith("}"):  # the last field has the ending of the file
            fields[places[-1][0]] = f"{content.number}-{side}.jpg"
    return fields


def _fields(reader: JsonRecords, content: Content, names: RowNames) -> Iterator[dict[str, Any]]:
    if not content.asked:
        yield {each.name: list(content.captions["en"]) for each in names.answers}
    for asked in content.asked:
        fields: dict[str, Any] = {names.question: _question(reader.file, asked)}
        fields |= {each.name: _answers(each, asked) for each in names.answers}
        fields |= {name: _META[name] for name in names.meta if name in _META}
        if asked.choices:
            fields["correct_choice_idx"] = asked.choices.index(asked.answer)
            fields[reader.choices or "choices"] = list(asked.choices)
        yield fields


def _question(file: str, asked: Asked) -> str:
    """The question in the language that the name of the file ends with, "marvl-sw.jsonl"; else in English."""
    return asked.translations.get(_language(file), asked.question)


def _language(file: str) -> str:
    return re.split(r"[-_]", Path(file).stem)[-1]


def _answers(field: AnswerField, asked: Asked) -> Any:
    answer: Any = {field.item: asked.answer} if field.item else _plain(asked)
    return [answer] * _PEOPLE if field.is_list else answer


def _plain(asked: Asked) -> Any:
    """The answer as JSON has it: a number where things are counted, true or false of a statement."""
    if asked.kind.startswith("count"):
        return int(asked.answer)
    return asked.answer == "True" if asked.kind == "pair_more" else asked.answer
