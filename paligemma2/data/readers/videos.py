"""Questions about videos, and captions of videos and of parts of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Record, VideoPart
from paligemma2.data.readers.row_files import read_json, read_rows, row_of, text_lines


@dataclass(frozen=True, kw_only=True)
class VideoRows:
    """A JSON file with a list of rows, each about a video.

    Attributes:
        file: its name.
        video: the name of the video's file without suffix, with fields of the row in braces:
            "video{video_id}".
        id: the name of the row in the same way.
        answers: another file of rows with the same `question_id`, whose fields are added; "" for none.
        names: a file with lines of two names, that of the video's file and that which `video` gives; "" where
            they are the same.
    """

    file: str
    video: str
    id: str
    answers: str = ""
    names: str = ""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        path = folder.file(self.file)
        answers = _by_question(folder.file(self.answers)) if self.answers else {}
        names = _renamed(folder.file(self.names)) if self.names else {}
        for number, row in enumerate(read_rows(path)):
            with row_of(path, number):
                fields = {**row, **answers[row["question_id"]]} if self.answers else row
                name = self.video.format_map(row)
                record = Record(
                    id=self.id.format_map(row),
                    pictures=(VideoPart(_there(folder, names.get(name, name), name)),),
                    fields=fields,
                    unit=name,
                )
            yield record


@dataclass(frozen=True, kw_only=True)
class VideoSentences:
    """A JSON file of videos and of sentences about them: `captions` of each video of a split.

    Attributes:
        file: {videos: [{video_id, split}], sentences: [{video_id, caption}]}.
        split: "train", "validate" or "test".
    """

    file: str
    split: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        path = folder.file(self.file)
        captions: dict[str, list[str]] = {}
        for number, row in enumerate(read_rows(path, "sentences")):
            with row_of(path, f"{number} of sentences"):
                captions.setdefault(row["video_id"], []).append(row["caption"])
        for number, row in enumerate(read_rows(path, "videos")):
            with row_of(path, f"{number} of videos"):
                if row["split"] != self.split:
                    continue
                name = row["video_id"]
                record = Record(id=name, pictures=(VideoPart(name),), fields={"captions": captions[name]})
            yield record


@dataclass(frozen=True, kw_only=True)
class VideoSegments:
    """A JSON file of videos with times: `caption` of each part of a video.

    Attributes:
        file: {video: {timestamps: [[start, end]], sentences: [...]}}, times in seconds.
    """

    file: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        path = folder.file(self.file)
        content = read_json(path)
        with row_of(path, "of videos"):
            rows = list(content.items())
        for name, row in rows:
            with row_of(path, name):
                parts = list(zip(row["timestamps"], row["sentences"], strict=True))
                records = [_segment(folder, name, start, end, text) for (start, end), text in parts]
            yield from records


def _segment(folder: DataFolder, name: str, start: float, end: float, text: str) -> Record:
    # Some end before they begin: the first annotators marked them backwards.
    start, end = min(start, end), max(start, end)
    video = VideoPart(_there(folder, name), start=start, end=end)
    return Record(
        id=f"{name}[{start:g}-{end:g}]", pictures=(video,), fields={"caption": text.strip()}, unit=name
    )


def _there(folder: DataFolder, *names: str) -> str:
    """The name under which a video lies in the folder, of several and with "v_" before them or without."""
    ways = [way for name in names for way in (name, f"v_{name}", name.removeprefix("v_"))]
    return next((way for way in ways if folder.video(way) is not None), names[0])


def _by_question(path: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(read_rows(path)):
        with row_of(path, number):
            found[row["question_id"]] = row
    return found


def _renamed(path: Path) -> dict[str, str]:
    """From the second name of a line to the first."""
    found = {}
    for number, line in enumerate(text_lines(path), start=1):
        with row_of(path, number):
            file, name = line.split()
            found[name] = file
    return found
