"""From contents to the files of a data set: each reader has a writer that gives what it reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.miniatures.row_names import RowNames
from paligemma2.data.miniatures.writers import (
    ai2d,
    caption_rows,
    coco_captions,
    countbench,
    crossmodal,
    json_records,
    nlvr,
    ocrvqa,
    question_records,
    referring_sentences,
    rico,
    rsvqa,
    scicap,
    scienceqa,
    stvqa,
    textvqa,
    videos,
)
from paligemma2.data.readers.ai2d import Ai2dRecords
from paligemma2.data.readers.caption_rows import CaptionRows
from paligemma2.data.readers.coco_captions import CocoCaptions, KarpathyCaptions
from paligemma2.data.readers.countbench import CountBenchRecords
from paligemma2.data.readers.crossmodal import CrossmodalCaptions, TranslatedCaptions, TranslatedPictures
from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.nlvr import NlvrRecords
from paligemma2.data.readers.ocrvqa import OcrVqaRecords
from paligemma2.data.readers.question_records import QuestionRecords
from paligemma2.data.readers.records import Reader
from paligemma2.data.readers.referring_sentences import ReferringPictures, ReferringSentences
from paligemma2.data.readers.rico import ScreenSummaries, WidgetCaptions
from paligemma2.data.readers.rsvqa import RsvqaRecords
from paligemma2.data.readers.scicap import SciCapFigures
from paligemma2.data.readers.scienceqa import ScienceQaRecords
from paligemma2.data.readers.stvqa import StVqaRecords
from paligemma2.data.readers.textvqa import TextVqaRecords
from paligemma2.data.readers.videos import VideoRows, VideoSegments, VideoSentences
from paligemma2.errors import ConfigError

Writer: TypeAlias = Callable[[Files, Any, Sequence[Content]], None]
NamedWriter: TypeAlias = Callable[[Files, Any, Sequence[Content], RowNames], None]
_NAMES = RowNames()
WRITERS: Mapping[type, Writer] = {
    Ai2dRecords: ai2d.write,
    CaptionRows: caption_rows.write,
    CocoCaptions: coco_captions.write_coco,
    CountBenchRecords: countbench.write,
    CrossmodalCaptions: crossmodal.write_crossmodal,
    KarpathyCaptions: coco_captions.write_karpathy,
    NlvrRecords: nlvr.write,
    OcrVqaRecords: ocrvqa.write,
    QuestionRecords: question_records.write,
    ReferringPictures: referring_sentences.write_pictures,
    ReferringSentences: referring_sentences.write_sentences,
    RsvqaRecords: rsvqa.write,
    SciCapFigures: scicap.write,
    ScienceQaRecords: scienceqa.write,
    ScreenSummaries: rico.write_summaries,
    StVqaRecords: stvqa.write,
    TextVqaRecords: textvqa.write,
    TranslatedCaptions: crossmodal.write_translated,
    TranslatedPictures: crossmodal.write_translated,
    VideoRows: videos.write_rows,
    VideoSegments: videos.write_segments,
    VideoSentences: videos.write_sentences,
    WidgetCaptions: rico.write_widgets,
}
"""By the class of the reader: what adds contents to the files that it reads."""
NAMED_WRITERS: Mapping[type, NamedWriter] = {JsonRecords: json_records.write}
"""The same for readers that leave the names of fields to the task."""


def shared_file(reader: Reader) -> str:
    """The file from which several splits read the same pictures, each in its language; else ""."""
    return reader.file if isinstance(reader, CrossmodalCaptions | TranslatedCaptions) else ""


def write_miniature(
    folder: Path, splits: Iterable[tuple[Reader, Sequence[Content]]], names: RowNames = _NAMES
) -> None:
    """Write a data set.

    Args:
        folder: that exists.
        splits: the reader of each, and what it shall find; the same contents for those with a `shared_file`.
        names: of fields, for readers that give all fields of a row as they are.

    Raises:
        ConfigError: a reader has no writer.
        MissingExtra: a format needs a library that is not installed.
    """
    files = Files(folder)
    for reader, contents in splits:
        kind = type(reader)
        if kind in NAMED_WRITERS:
            NAMED_WRITERS[kind](files, reader, contents, names)
        elif kind in WRITERS:
            WRITERS[kind](files, reader, contents)
        else:
            raise ConfigError(
                f"no miniature can be written for the reader {kind.__name__}",
                hint="add a writer to paligemma2/data/miniatures/writers, and to WRITERS",
            )
    files.save()
