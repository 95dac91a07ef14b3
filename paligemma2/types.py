"""The plain values that travel between the layers. No tensors, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# A real union, so that `ImageSource | …` works at run time without importing NumPy and Pillow here.
ImageSource: TypeAlias = Union[str, Path, bytes, "np.ndarray", "Image.Image"]
FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example: images, what is asked, and (for training) the answer.

    `prefix` and `suffix` are text as a user would type it; location and mask tokens in `suffix` are meant.
    """

    images: tuple["ImageSource", ...]
    prefix: str = ""
    suffix: str | None = None
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the model wrote for one prompt.

    `token_ids` are without the end token; `finish_reason` is "stop" when the model ended by itself and
    "length" when `max_new_tokens` ran out. `log_probs` are the natural logarithms of the model's probability
    of each of `token_ids`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    log_probs: tuple[float, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Box:
    """Corners of a box as fractions of the whole image, 0 (top, left) to 1 (bottom, right)."""

    y_min: float
    x_min: float
    y_max: float
    x_max: float

    def pixels(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(y_min, x_min, y_max, x_max) in pixels of an image of this size."""
        return self.y_min * height, self.x_min * width, self.y_max * height, self.x_max * width


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One object in an answer.

    `score` is None where the text alone is known; `codes` are the 16 numbers of its mask tokens, if any;
    `mask` is what they mean: bool [height, width] of the whole image, None until it is decoded.
    """

    label: str
    box: Box
    score: float | None = None
    codes: tuple[int, ...] = ()
    mask: "np.ndarray | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A malformed span of an answer: `text[start:end]` and why."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """Objects found in an answer, the text left over, and what was malformed."""

    detections: tuple[Detection, ...]
    text: str
    problems: tuple[Problem, ...]
