"""Rows and the processor of the shipped model, for the tests of the doctor of data sets."""

from functools import cache
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.config_json import read_config
from paligemma2.data.rows import Annotation, DataRow
from paligemma2.processing.processor import Processor
from paligemma2.types import Box

FILE = Path("train.jsonl")
BOX = "<loc0100><loc0200><loc0300><loc0400>"


@cache
def tiny_processor() -> Processor:
    return Processor.from_folder(TINY_FOLDER, read_config(TINY_FOLDER))


def row(
    prefix: str = "ocr",
    suffix: str | None = "stop",
    *,
    images: tuple[Path | bytes, ...] = (Path("a.png"),),
    split: str = "train",
    line: int = 1,
    row_id: str = "",
    objects: tuple[Annotation, ...] = (),
    size: tuple[int, int] | None = None,
) -> DataRow:
    height, width = size or (None, None)
    return DataRow(
        images=images,
        prefix=prefix,
        suffix=suffix,
        split=split,
        file=FILE,
        line=line,
        id=row_id,
        objects=objects,
        height=height,
        width=width,
    )


def annotation(y_min: float, x_min: float, y_max: float, x_max: float, label: str = "cat") -> Annotation:
    return Annotation(label=label, box=Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max))
