"""A JSON file with a row for each caption."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.miniatures.writers.json_records import rows_in
from paligemma2.data.readers.caption_rows import CaptionRows


def write(files: Files, reader: CaptionRows, contents: Sequence[Content]) -> None:
    """The captions of each picture, one after the other."""
    rows = rows_in(files, reader.file, reader.rows)
    for content in contents:
        name = f"{content.number:016x}"
        files.picture(f"images/{name}.jpg", content.pictures[0])
        captions = list(content.captions["en"])
        rows.extend(
            {"caption_id": content.number * 10 + i, reader.image: name, reader.caption: text}
            for i, text in enumerate(captions)
        )
