"""What the procedural world hands out: pictures and the rows asked about them."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from paligemma2.types import Box

Pixels: TypeAlias = npt.NDArray[np.uint8]
Task: TypeAlias = Literal["caption", "vqa", "detect", "segment", "ocr", "pair", "say"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """An object to segment: its name in the answer, its box and its outline.

    `outline` is float64 [points, 2] (x, y) in fractions of the picture. The inside of it is the object, also
    where another object hides a part.
    """

    label: str
    box: Box
    outline: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt and its answer. `kind` is finer than `task`, for scores by kind of question.

    The suffix of a segment row has no mask tokens: these depend on a codec, which turns `targets` into them.
    """

    task: Task
    kind: str
    prefix: str
    suffix: str
    targets: tuple[Target, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Pictures, each uint8 [size, size, 3], and several rows about them; a pair has two pictures."""

    images: tuple[Pixels, ...]
    rows: tuple[Row, ...]
