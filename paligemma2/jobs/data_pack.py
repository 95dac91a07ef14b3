"""The rows and pictures of a task as tar shards, which `paligemma2 bulk` reads from anywhere."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paligemma2 import tasks
from paligemma2.checkpoint.atomic import new_folder
from paligemma2.data.formats.tar_shards import ShardWriter
from paligemma2.data.pictures import picture_bytes
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Picture, Record, VideoPart
from paligemma2.data.rows import UnusableRow
from paligemma2.errors import DataError
from paligemma2.evaluation.examples import records_of
from paligemma2.evaluation.predictions import slug
from paligemma2.jobs.bulk_sources import ID, UNIT
from paligemma2.processing.image import MAX_FILE_BYTES
from paligemma2.processing.stored import read_cell, read_part
from paligemma2.types import EditedPicture, FilePart, TableCell


@dataclass(frozen=True, kw_only=True)
class DataPackConfig:
    """What `run` needs.

    Attributes:
        task: a name of `tasks.names()`, or a Python file that holds a `TASK`.
        data: the folder of the data set.
        destination: a new folder for the shards; has a folder for each split.
        splits: of the task; empty for all of the card.
    """

    task: str
    data: Path
    destination: Path
    splits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataPackReport:
    """How many rows were written of each split, and the names of pictures that are not there."""

    written: dict[str, int]
    missing: tuple[str, ...]


def run(config: DataPackConfig, on_row: Callable[[int], None] | None = None) -> DataPackReport:
    """Pack splits; a row whose pictures are not all there is left out.

    Args:
        config: what to pack.
        on_row: called with the number of rows written so far.

    Raises:
        InputError: there is no such task, or the destination exists.
        DataError: files are missing or do not hold what they should, or pictures are videos or changed when
            they are opened.
        ImageError: a file that pictures are parts of is damaged.
        WorkError: the disk is full.
    """
    task, folder = tasks.load(config.task), DataFolder(config.data)
    splits = config.splits or tuple(dict.fromkeys(split for row in task.rows for split in row.splits))
    written, missing = dict.fromkeys(splits, 0), dict[str, None]()
    with new_folder(config.destination) as partial:
        for split in splits:
            place = partial / slug(split)
            place.mkdir()
            writer = ShardWriter(place, slug(split))
            for record in records_of(task, split, folder):
                try:
                    writer.add(_members(record, folder))
                except UnusableRow as problem:
                    missing[problem.detail] = None
                    continue
                written[split] += 1
                if on_row is not None:
                    on_row(sum(written.values()))
            writer.close()
    return DataPackReport(written=written, missing=tuple(missing))


def _members(record: Record, folder: DataFolder) -> dict[str, bytes]:
    members = {}
    for number, picture in enumerate(record.pictures):
        content, ending = _content(picture, folder)
        members[ending if len(record.pictures) == 1 else f".{number:03d}{ending}"] = content
    fields = {**record.fields, ID: record.id, UNIT: record.unit}
    members[".json"] = json.dumps(fields, ensure_ascii=False, default=str).encode()
    return members


def _content(picture: Picture, folder: DataFolder) -> tuple[bytes, str]:
    if isinstance(picture, VideoPart):
        raise DataError(f"{picture.name} is a video", hint="tasks about videos are run by `evaluate`")
    if isinstance(picture, EditedPicture):
        raise DataError(
            "the pictures are changed when they are opened", hint="such tasks are run by `evaluate`"
        )
    found = folder.image(picture) if isinstance(picture, str) else picture
    if found is None:
        raise UnusableRow("the picture is missing", str(picture))
    if isinstance(found, FilePart):
        return picture_bytes(read_part(found, MAX_FILE_BYTES))
    if isinstance(found, TableCell):
        return picture_bytes(read_cell(found, MAX_FILE_BYTES))
    return picture_bytes(found)
