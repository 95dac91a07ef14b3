"""CountBench: a table with the pictures in it, and a file of questions."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.countbench import CountBenchRecords
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.optional import require


def write(files: Files, reader: CountBenchRecords, contents: Sequence[Content]) -> None:
    """A row and a question for each picture."""
    rows = files.rows(reader.table.replace("*", "00000-of-00001"), _parquet)
    questions = files.rows(reader.questions)
    for content in contents:
        (asked, *_) = content.asked
        rows.append(
            {
                "image": {"bytes": _encoded(content.pictures[0]), "path": None},
                "text": content.captions["en"][0],
                "number": int(asked.answer),
                "image_url": f"https://example.org/{content.number}.png",
            }
        )
        questions.append({"question": asked.question})


def _encoded(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _parquet(rows: Sequence[Any]) -> bytes:
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    fields = [("bytes", arrow.binary()), ("path", arrow.string())]
    columns = [
        ("image", arrow.struct(fields)),
        ("text", arrow.string()),
        ("number", arrow.int64()),
        ("image_url", arrow.string()),
    ]
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=arrow.schema(columns)), buffer)
    return buffer.getvalue()
