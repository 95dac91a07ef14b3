"""NLVR2: an object on each line."""

from collections.abc import Sequence
from pathlib import Path

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files, json_lines
from paligemma2.data.readers.nlvr import NlvrRecords


def write(files: Files, reader: NlvrRecords, contents: Sequence[Content]) -> None:
    """The statements of one file, and the pictures that their identifiers name."""
    rows, split = files.rows(reader.file, json_lines), Path(reader.file).stem
    for content in contents:
        stem = f"{split}-{content.number}-0"
        for side, pixels in enumerate(content.pictures):
            files.picture(f"images/{split}/{stem}-img{side}.png", pixels)
        rows.extend(
            {
                "identifier": f"{stem}-{place}",
                "sentence": asked.question,
                "label": asked.answer,
                "left_url": f"https://example.org/{stem}-img0.png",
                "right_url": f"https://example.org/{stem}-img1.png",
            }
            for place, asked in enumerate(content.asked)
        )
