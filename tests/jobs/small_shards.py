"""Small tar shards and parquet files of questions about pictures of noise, some of them broken."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

QUESTION = "what is this ?"
BROKEN = b"\x89PNG, but not for long"


def picture(seed: int, size: int = 24) -> bytes:
    """An encoded picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fields(number: int, **more: Any) -> dict[str, Any]:
    """The fields of a row."""
    return {"id": f"row {number}", "question": QUESTION, "answer": "cat", **more}


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    """A tar shard with these members in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    return path


def sound_members(first: int, count: int) -> dict[str, bytes]:
    """Samples with a picture and a question each."""
    members = {}
    for number in range(first, first + count):
        members[f"{number:06d}.png"] = picture(number)
        members[f"{number:06d}.json"] = json.dumps(fields(number)).encode()
    return members


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A parquet file of rows with pictures as `datasets` stores them, or as plain bytes or names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def parquet_rows(first: int, count: int) -> list[dict[str, Any]]:
    """Rows with a picture and a question each."""
    return [
        {"image": {"bytes": picture(number), "path": f"{number}.png"}, **fields(number)}
        for number in range(first, first + count)
    ]


def write_data(folder: Path) -> Path:
    """25 sound rows (numbers 0 to 24) in two shards and a parquet file, and four without an answer."""
    members = sound_members(0, 10)
    members |= {"broken.png": BROKEN, "broken.json": json.dumps(fields(100)).encode()}
    members |= {"alone.json": json.dumps(fields(101)).encode()}
    write_shard(folder / "a.tar", members)
    write_shard(folder / "more" / "b.tgz", sound_members(10, 7))
    rows = parquet_rows(17, 8)
    rows[3:3] = [{**parquet_rows(102, 1)[0], "question": None}]
    rows.append({"image": {"bytes": None, "path": None}, **fields(103)})
    write_parquet(folder / "more" / "c.parquet", rows)
    return folder
