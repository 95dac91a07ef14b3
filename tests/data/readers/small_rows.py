"""What tests of readers share: the fixtures of tasks, and folders with a few files."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Reader, Record

FIXTURES = Path(__file__).parents[2] / "tasks" / "fixtures"


def fixture(name: str) -> DataFolder:
    """The folder of a task's fixture."""
    return DataFolder(FIXTURES / name)


def folder_of(root: Path, files: dict[str, Any]) -> DataFolder:
    """A folder with files: pictures of a size (width, height), bytes, texts, and JSON of all else."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new("RGB", content).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return DataFolder(root)


def read(reader: Reader, folder: DataFolder) -> list[Record]:
    """All rows."""
    return list(reader.read(folder))
