"""The plain values that travel between the layers. No tensors, no torch."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


@dataclass(frozen=True, slots=True)
class FilePart:
    """The bytes of a picture inside of a larger file, as in a tar shard, which are read when it is opened.

    Attributes:
        path: of the larger file.
        offset: bytes that stand before the picture.
        size: its bytes, as they stand in the file.
        is_deflated: whether they are compressed, as zip files do it.
    """

    path: Path
    offset: int
    size: int
    is_deflated: bool = False


@dataclass(frozen=True, slots=True)
class TableCell:
    """A picture in a column of a parquet file, which is read when it is opened.

    Attributes:
        path: of the file.
        row: its number in the file, from 0.
        column: with a dot between the names of nested fields, "image.bytes".
    """

    path: Path
    row: int
    column: str


StoredPicture: TypeAlias = str | Path | bytes | FilePart | TableCell
"""A picture that travels between processes as a place or as encoded bytes, without its pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A white rectangle with a text in it, painted over a picture; corners in pixels."""

    left: int
    top: int
    right: int
    bottom: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedPicture:
    """A picture that is changed whenever it is opened, as some benchmarks want it; the file stays as it is.

    Attributes:
        source: the picture; in what a reader of a data set gives, its name there.
        quarter_turns: first it is turned so often by 90 degrees, counter-clockwise.
        labels: then these are painted, in order.
        outline: last, after it was resized for the model, a red line of one pixel around this box.
    """

    source: StoredPicture
    quarter_turns: int = 0
    labels: tuple[Label, ...] = ()
    outline: "Box | None" = None


# A real union, so that `ImageSource | …` works at run time without importing NumPy and Pillow here.
ImageSource: TypeAlias = Union[
    str, Path, bytes, FilePart, TableCell, EditedPicture, "np.ndarray", "Image.Image"
]
FinishReason: TypeAlias = Literal["stop", "length"]
DecodingMethod: TypeAlias = Literal["greedy", "sample", "beam"]
BeamRule: TypeAlias = Literal["hf", "big_vision"]


@dataclass(frozen=True)
class Clip:
    """A video, which stands for some of its frames, in order, wherever a picture may stand.

    `processing.video` reads it and checks the values.

    Attributes:
        source: path or bytes of a video file.
        num_frames: how many pictures it is for the model. A clip with fewer frames repeats itself.
        stride: take the first frame and every so many-th after it, as the released models were trained; None
            spreads the frames evenly over the whole clip.
        start: seconds from the beginning of the video; frames shown before are not part of the clip.
        end: seconds; nor are frames shown from here on. None goes to the end of the video.
    """

    source: str | Path | bytes
    _: KW_ONLY
    num_frames: int = 16
    stride: int | None = None
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of several things to ask about the same pictures.

    Attributes:
        prefixes: ways to ask for it, at least one.
        answers: all right answers, at least one.
    """

    prefixes: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example: images, what is asked, and (for training) the answer.

    `prefix` and `suffix` are text as a user would type it; location and mask tokens in `suffix` are meant.
    `answers` are all right answers where there are several, of which `suffix` is one. `variants` are all that
    may be asked, where each epoch asks something else, as for another object of the picture; `prefix`,
    `suffix` and `answers` are the first of them.
    """

    images: tuple["ImageSource | Clip", ...]
    prefix: str = ""
    suffix: str | None = None
    answers: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How an answer is made from the model's probabilities; `inference.settings` checks the values.

    Attributes:
        max_new_tokens: where to stop a model that does not end by itself.
        method: "greedy" takes the most likely token at each step, "sample" draws one, "beam" keeps the best
            few answers side by side and gives the best that ended.
        temperature: sample: logits are divided by it; near 0 is greedy, 1 is the model's own distribution.
        top_k: sample: only so many of the most likely tokens are drawn from; None leaves none out.
        top_p: sample: only the fewest tokens that together have this probability are drawn from.
        seed: sample: an answer depends on its own picture, prompt and seed, not on the rest of the batch.
        best_of: sample: draw so many answers, with this seed and those after it, and give the most likely.
        beams: beam: how many answers are kept side by side.
        beam_rule: beam: when an answer may end, as Hugging Face's `generate` or big_vision has it; the second
            has no length penalty.
        length_penalty: beam: answers are compared by the sum of their tokens' log-probabilities divided by
            their length (end token included) to this power; 0 compares probabilities (big_vision), 1 is the
            default of Hugging Face.
        stop: greedy and sample: the answer ends before the first of these texts.
        top_log_probs: greedy and sample: tell so many of the most likely tokens at each place.
    """

    max_new_tokens: int = 64
    method: DecodingMethod = "greedy"
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    best_of: int = 1
    beams: int = 3
    beam_rule: BeamRule = "hf"
    length_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    top_log_probs: int = 0


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the model wrote for one prompt.

    `token_ids` are without the end token; `finish_reason` is "stop" when the model ended by itself or wrote a
    stop text (which `text` is without) and "length" when `max_new_tokens` ran out. `log_probs` are the
    natural logarithms of the model's probability of each of `token_ids`, `location_log_probs` those of all
    location tokens together at the same places. `top_log_probs` has at each place the most likely ids with
    their log-probabilities, if they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    log_probs: tuple[float, ...] = field(default=(), compare=False, repr=False)
    location_log_probs: tuple[float, ...] = field(default=(), compare=False, repr=False)
    top_log_probs: tuple[tuple[tuple[int, float], ...], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class ScoredSuffix:
    """How likely the model finds an answer.

    `log_probs` are the natural logarithms of the probability of each token, the end token last.
    """

    suffix: str
    log_probs: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        """Of the whole answer, end token included; the most likely of several answers has the largest."""
        return math.fsum(self.log_probs)

    @property
    def perplexity(self) -> float:
        """1 for an answer without doubt; the mean over the tokens makes answers of any length comparable."""
        return math.exp(-self.log_prob / len(self.log_probs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Corners of a box as fractions of the whole image, 0 (top, left) to 1 (bottom, right)."""

    y_min: float
    x_min: float
    y_max: float
    x_max: float

    def pixels(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(y_min, x_min, y_max, x_max) in pixels of an image of this size."""
        return self.y_min * height, self.x_min * width, self.y_max * height, self.x_max * width

    @classmethod
    def from_pixels(cls, corners: tuple[float, float, float, float], height: int, width: int) -> "Box":
        """The box with these (y_min, x_min, y_max, x_max) in pixels of an image of this size, not empty."""
        y_min, x_min, y_max, x_max = corners
        return cls(y_min=y_min / height, x_min=x_min / width, y_max=y_max / height, x_max=x_max / width)


@dataclass(frozen=True, kw_only=True, slots=True)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A malformed span of an answer: `text[start:end]` and why."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """Objects found in an answer, the text left over, and what was malformed.

    `spans` says for each of `detections` where it stands in the answer: (start, end), from its first location
    token to the last character of its label.
    """

    detections: tuple[Detection, ...]
    text: str
    problems: tuple[Problem, ...]
    spans: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
