"""Files of a data set for tests of its reader."""

import json
from pathlib import Path

from paligemma2.data.readers.data_folder import DataFolder


def folder_with(root: Path, files: dict[str, object]) -> DataFolder:
    """A folder with these files: texts as they are, anything else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return DataFolder(root)
