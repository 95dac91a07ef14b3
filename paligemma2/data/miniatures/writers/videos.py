"""Questions about videos, and captions of videos and of their parts."""

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import FRAMES_PER_SECOND, Files
from paligemma2.data.readers.videos import VideoRows, VideoSegments, VideoSentences

_TYPES = {"color": 4, "shape": 5}  # of ActivityNet-QA: colour and object
_ROWS = 100


def write_rows(files: Files, reader: VideoRows, contents: Sequence[Content]) -> None:
    """A row for each question; of videos without questions, one with all captions."""
    rows = files.rows(reader.file)
    answers = files.rows(reader.answers) if reader.answers else []
    for content in contents:
        video = {_field(reader.video): content.number}
        name = reader.video.format_map(video)
        file = f"miniature_{name}" if reader.names else name
        files.video(f"videos/{file}.mp4", content.pictures)
        if reader.names:
            files.rows(reader.names).append(f"{file} {name}")
        for place, fields in enumerate(_fields(content)):
            number = content.number * _ROWS + place
            known = {_field(reader.id): number, **video}  # some name the row by its video
            if reader.answers:
                answers.append({"question_id": known["question_id"], **_without(fields, "question")})
                fields = {"question": fields["question"]}
            rows.append({**known, **fields})


def write_sentences(files: Files, reader: VideoSentences, contents: Sequence[Content]) -> None:
    """Videos and sentences of one split, in a file that other splits may share."""
    table = files.table(reader.file, videos=[], sentences=[])
    for content in contents:
        name = f"video{content.number}"
        files.video(f"videos/{name}.mp4", content.pictures)
        table["videos"].append({"video_id": name, "id": content.number, "split": reader.split})
        table["sentences"].extend({"video_id": name, "caption": text} for text in content.captions["en"])


def write_segments(files: Files, reader: VideoSegments, contents: Sequence[Content]) -> None:
    """Two parts of each video, which overlap."""
    table = files.table(reader.file)
    for content in contents:
        name = f"v_{content.number}"
        files.video(f"videos/{name}.mp4", content.pictures)
        seconds = len(content.pictures) / FRAMES_PER_SECOND
        table[name] = {
            "duration": seconds,
            "timestamps": [[0.0, seconds * 0.6], [seconds * 0.4, seconds]],
            "sentences": [f" {content.captions['en'][0]}"] * 2,
        }


def _fields(content: Content) -> list[Mapping[str, Any]]:
    if not content.asked:
        return [{"enCap": list(content.captions["en"]), "chCap": []}]
    return [
        {"question": each.question, "answer": each.answer, "type": _TYPES[each.kind]}
        for each in content.asked
    ]


def _field(template: str) -> str:
    """The only field of a template such as "video{video_id}"."""
    (name,) = (name for _, name, _, _ in Formatter().parse(template) if name)
    return name


def _without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}
