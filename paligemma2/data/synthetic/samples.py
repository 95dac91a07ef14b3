"""What the procedural world hands out: pictures and the rows asked about them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
Task: TypeAlias = Literal["caption", "vqa", "detect", "ocr", "pair"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt and its answer. `kind` is finer than `task`, for scores by kind of question."""

    task: Task
    kind: str
    prefix: str
    suffix: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Pictures, each uint8 [size, size, 3], and several rows about them; a pair has two pictures."""

    images: tuple[Pixels, ...]
    rows: tuple[Row, ...]
