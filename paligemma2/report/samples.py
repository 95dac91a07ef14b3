"""Examples of a run with their pictures and answers, the worst first."""

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paligemma2.data.readers.data_folder import VIDEO_SUFFIXES
from paligemma2.drawing.sheet import thumbnail
from paligemma2.errors import DataError, PaliGemmaError
from paligemma2.evaluation.result import RowResult
from paligemma2.processing.image import open_image
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.video import read_clip
from paligemma2.types import Clip, FilePart, ImageSource

_SIDE = 320
_ANSWERS_SHOWN = 4
_FRAME_SIZE = 448


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
    lines = (line for split in row.splits for line in _scored(folder / prediction_file(split)))
    worst = heapq.nsmallest(count, lines, key=lambda line: (line["score"], -(line.get("log_prob") or 0.0)))
    return [_sample(line) for line in worst]


def prediction_file(split: str) -> str:
    """The name of the file that the predictions of a split are in."""
    return f"{re.sub(r'[^0-9A-Za-z_-]+', '_', split).strip('_')}.jsonl"


def _scored(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines with a score; none where there is no file, since a result may travel without."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
                if line.get("score") is not None:
                    yield line
            except (ValueError, AttributeError) as error:
                raise DataError(f"{path}, line {number}: {error}", hint="evaluate again") from error


def _sample(line: Mapping[str, Any]) -> Sample:
    images = line.get("images") or ()
    picture = _picture(images[0], line["prediction"]) if images else None
    lines = [f"the first of {len(images)} pictures"] if len(images) > 1 else []
    if images and picture is None:
        lines.append("the picture cannot be read any more")
    if line.get("finish_reason") == "length":
        lines.append("the answer was cut at its longest length")
    return Sample(
        id=str(line["id"]),
        prompt=line["prompt"],
        prediction=line["prediction"],
        answers=_counted(line.get("answers") or ()),
        score=float(line["score"]),
        picture=picture,
        lines=tuple(lines),
    )


def _counted(answers: tuple[str, ...]) -> tuple[str, ...]:
    counts = Counter(answers).most_common()
    shown = [f"{text} (× {count})" if count > 1 else text for text, count in counts[:_ANSWERS_SHOWN]]
    more = len(counts) - len(shown)
    return (*shown, f"and {more} more") if more else tuple(shown)


def _picture(image: object, prediction: str) -> Image.Image | None:
    try:
        opened = _opened(image)
    except PaliGemmaError:
        return None
    found = parse_answer(prediction).detections
    return thumbnail(opened, found, labels=[each.label for each in found], side=_SIDE)


def _opened(image: object) -> Image.Image:
    """The picture, or the first frame of the video, that a line of predictions names."""
    if isinstance(image, Mapping) and "source" in image:
        return _first_frame(Clip(**{**image, "num_frames": 1}))
    source: ImageSource = (
        FilePart(**{**image, "path": Path(image["path"])}) if isinstance(image, Mapping) else str(image)
    )
    if isinstance(source, str) and Path(source).suffix.lower() in VIDEO_SUFFIXES:
        return _first_frame(Clip(source, num_frames=1))
    return open_image(source)


def _first_frame(clip: Clip) -> Image.Image:
    pixels = (read_clip(clip, _FRAME_SIZE)[0].transpose(1, 2, 0) + 1) * 127.5
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
