"""Contents to files and back through the reader that the files are for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.kinds import draw_contents
from paligemma2.data.miniatures.row_names import RowNames
from paligemma2.data.miniatures.write import shared_file, write_miniature
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Picture, Reader, Record, VideoPart

APART = 1000


def round_trip(
    folder: Path, kind: str, *readers: Reader, count: int = 4, names: RowNames | None = None
) -> list[tuple[list[Content], list[Record]]]:
    """What was written for each reader, and what it reads; all pictures are there."""
    contents: list[list[Content]] = []
    files: list[str] = []
    for reader in readers:
        files.append(shared_file(reader) or str(len(files)))
        first = 1 + APART * files.index(files[-1])
        contents.append(list(draw_contents(kind, seed=0, first=first, count=count)))
    pairs = list(zip(readers, contents, strict=True))
    write_miniature(folder, pairs, *([names] if names else []))
    data = DataFolder(folder)
    read = [list(reader.read(data)) for reader in readers]
    for record in (record for records in read for record in records):
        assert all(is_there(picture, data) for picture in record.pictures), record.pictures
    return list(zip(contents, read, strict=True))


def is_there(picture: Picture, data: DataFolder) -> bool:
    """Whether a picture or a video can be had."""
    if isinstance(picture, VideoPart):
        return data.video(picture.name) is not None
    name: Any = getattr(picture, "source", picture)
    return not isinstance(name, str) or data.image(name) is not None


def questions(contents: Sequence[Content]) -> list[tuple[str, str]]:
    """All questions and their answers."""
    return [(asked.question, asked.answer) for content in contents for asked in content.asked]


def captions(contents: Sequence[Content], language: str = "en") -> list[list[str]]:
    """The captions of each content."""
    return [list(content.captions[language]) for content in contents]
