"""Questions about videos, and captions of videos and of parts of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, read_mapping, row_of
from paligemma2.data.readers.records import Record, VideoPart
from paligemma2.data.readers.row_files import text_lines


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
        answers = _by_question(folder, self.answers) if self.answers else {}
        names = _renamed(folder, self.names) if self.names else {}
        for number, row in enumerate(read_list(folder, self.file)):
            with row_of(self.file, number):
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
        captions: dict[str, list[str]] = {}
        for number, row in enumerate(read_list(folder, self.file, "sentences")):
            with row_of(self.file, f"{number} of sentences"):
                captions.setdefault(row["video_id"], []).append(row["caption"])
        for number, row in enumerate(read_list(folder, self.file, "videos")):
            with row_of(self.file, f"{number} of videos"):
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
        for name, row in read_mapping(folder, self.file).items():
            with row_of(self.file, name):
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


def _by_question(folder: DataFolder, file: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(read_list(folder, file)):
        with row_of(file, number):
            found[row["question_id"]] = row
    return found


def _renamed(folder: DataFolder, file: str) -> dict[str, str]:
    """From the second name of a line to the first."""
    found = {}
    for number, line in enumerate(text_lines(folder, file), start=1):
        with row_of(file, number):
            clip, name = line.split()
            found[name] = clip
    return found
