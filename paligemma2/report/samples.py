"""Examples of a run with their pictures and answers, the worst first."""

import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from paligemma2.data.readers.data_folder import VIDEO_SUFFIXES
from paligemma2.drawing.sheet import thumbnail
from paligemma2.errors import PaliGemmaError
from paligemma2.evaluation.predictions import SUFFIX, Prediction, read_predictions, slug
from paligemma2.evaluation.result import RowResult
from paligemma2.processing.image import MAX_FILE_BYTES, open_image
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.video import read_clip
from paligemma2.types import Clip, FilePart

_SIDE = 320
_ANSWERS_SHOWN = 4
_FRAME_SIZE = 448
_PART = re.compile(r"(?P<path>.+):(?P<offset>\d+)\+(?P<size>\d+)")
_CLIP = re.compile(r"(?P<path>.+) \[(?P<start>[\d.]+)-[\d.]*\]")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An example as a page shows it.

    Attributes:
        id: of the example in its split.
        prompt: what was asked.
        prediction: what the model wrote.
        answers: the right ones, the most frequent first, with how often each is given.
        score: as a fraction.
        picture: the first of them, small, with the boxes of the prediction; None where it cannot be read.
        lines: what else there is to say.
    """

    id: str
    prompt: str
    prediction: str
    answers: tuple[str, ...]
    score: float
    picture: Image.Image | None
    lines: tuple[str, ...] = ()


def worst_samples(folder: Path, row: RowResult, count: int) -> list[Sample]:
    """The examples of a row with the lowest scores; of equal ones those that the model was surest of.

    Args:
        folder: of the result, where the predictions of each split are.
        row: says which splits.
        count: how many at most.

    Raises:
        DataError: a file of predictions is damaged.
    """
    lines = (line for split in row.splits for line in _scored(folder / f"{slug(split)}{SUFFIX}"))
    return [_sample(line) for line in heapq.nsmallest(count, lines, key=_rank)]


def _scored(path: Path) -> Iterator[Prediction]:
    """The predictions with a score; none where there is no file, since a result may travel without."""
    if path.is_file():
        yield from (line for line in read_predictions(path).lines if line.score is not None)


def _rank(line: Prediction) -> tuple[float, float]:
    return (line.score or 0.0, -line.log_prob)


def _sample(line: Prediction) -> Sample:
    picture = _picture(line.images[0], line.prediction) if line.images else None
    lines = [f"the first of {len(line.images)} pictures"] if len(line.images) > 1 else []
    if line.images and picture is None:
        lines.append("the picture cannot be read any more")
    if line.finish_reason == "length":
        lines.append("the answer was cut at its longest length")
    return Sample(
        id=line.id,
        prompt=line.prompt,
        prediction=line.prediction,
        answers=_counted(line.answers),
        score=line.score or 0.0,
        picture=picture,
        lines=tuple(lines),
    )


def _counted(answers: tuple[str, ...]) -> tuple[str, ...]:
    counts = Counter(answers).most_common()
    shown = [f"{text} (× {count})" if count > 1 else text for text, count in counts[:_ANSWERS_SHOWN]]
    more = len(counts) - len(shown)
    return (*shown, f"and {more} more") if more else tuple(shown)


def _picture(image: str, prediction: str) -> Image.Image | None:
    try:
        opened = _opened(image)
    except (PaliGemmaError, OSError, zlib.error):
        return None
    found = parse_answer(prediction).detections
    return thumbnail(opened, found, labels=[each.label for each in found], side=_SIDE)


def _opened(name: str) -> Image.Image:
    """The picture, or the first frame of the video, that a line of predictions names.

    A name is a path; `path:offset+size` for a part of a file; and `path [start-end]` for a part of a video.
    """
    if (part := _PART.fullmatch(name)) is not None:
        return _opened_part(FilePart(Path(part["path"]), int(part["offset"]), int(part["size"])))
    clip = _CLIP.fullmatch(name)
    path, start = (clip["path"], float(clip["start"])) if clip is not None else (name, 0.0)
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        return open_image(path)
    pixels = (read_clip(Clip(path, num_frames=1, start=start), _FRAME_SIZE)[0].transpose(1, 2, 0) + 1) * 127.5
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _opened_part(part: FilePart) -> Image.Image:
    """A part of an archive may be compressed as in zip files, which its name does not tell."""
    try:
        return open_image(part)
    except PaliGemmaError:
        with part.path.open("rb") as file:
            file.seek(part.offset)
            inflated = zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(
                file.read(part.size), MAX_FILE_BYTES
            )
        return open_image(inflated)
