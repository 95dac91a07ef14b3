"""From contents to the files of a data set: each reader has a writer that gives what it reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.miniatures.writers import json_records, referring_sentences
from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.records import Reader
from paligemma2.data.readers.referring_sentences import ReferringPictures, ReferringSentences
from paligemma2.errors import ConfigError

Writer: TypeAlias = Callable[[Files, Any, Sequence[Content]], None]
WRITERS: Mapping[type, Writer] = {
    JsonRecords: json_records.write,
    ReferringPictures: referring_sentences.write_pictures,
    ReferringSentences: referring_sentences.write_sentences,
}
"""By the class of the reader: what adds contents to the files that it reads."""


def write_miniature(folder: Path, splits: Iterable[tuple[Reader, Sequence[Content]]]) -> None:
    """Write a data set.

    Args:
        folder: that exists.
        splits: the reader of each, and what it shall find.

    Raises:
        ConfigError: a reader has no writer.
        MissingExtra: a format needs a library that is not installed.
    """
    files = Files(folder)
    for reader, contents in splits:
        _writer_of(reader)(files, reader, contents)
    files.save()


def _writer_of(reader: Reader) -> Writer:
    name = type(reader).__name__
    if type(reader) not in WRITERS:
        raise ConfigError(
            f"no miniature can be written for the reader {name}",
            hint="add a writer to paligemma2/data/miniatures/writers, and to WRITERS",
        )
    return WRITERS[type(reader)]
