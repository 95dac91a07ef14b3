"""Pictures or videos and a prompt to answers, in batches, as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from paligemma2.checkpoint.weights import OnProgress
from paligemma2.errors import CheckpointError, ImageError, InputError, PaliGemmaError, WorkError
from paligemma2.inference.constraints import Constraint, detect_grammar, segment_grammar
from paligemma2.inference.devices import Dtype
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import (
    BOX_TOKENS,
    DEFAULT_MAX_NEW_TOKENS,
    GREEDY,
    MASK_TOKENS,
    PaliGemma2,
)
from paligemma2.inference.settings import check_decoding
from paligemma2.jobs.predict_drawings import Drawings
from paligemma2.jobs.predict_memory import note_memory
from paligemma2.jobs.predict_sheet import check_sheet
from paligemma2.model.weight_forms import Quantization
from paligemma2.processing.image import open_image
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.processing.video import check_clip, clip_size
from paligemma2.types import Clip, Decoding, Generation, ImageSource, ParsedAnswer

OnText = Callable[[str], None]
_GRAMMARS = {"detect": detect_grammar, "segment": segment_grammar}
_LIMITS = {"detect": BOX_TOKENS, "segment": MASK_TOKENS, "ocr": BOX_TOKENS}


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What `run` needs.

    Attributes:
        model: "tiny", a folder, a `.npz` or a hub id.
        images: files; `predict_files.find_files` finds those in a folder.
        videos: those of `images` that are videos.
        num_frames: how many frames of each video are asked about together.
        stride: which frames these are; see `types.Clip`.
        prompt: is asked about each picture.
        together: ask once about all pictures, in order.
        max_new_tokens: where to stop a model that does not end by itself; None suits the form of the prompt.
        decoding: how tokens are chosen, but for `max_new_tokens`.
        batch_size: pictures that are asked about at once, each frame of a video one of them; but never less
            than one question.
        device: see `paligemma2.load`.
        dtype: see `paligemma2.load`.
        quantize: see `paligemma2.load`.
        tensor_parallel: see `paligemma2.load`.
        constrained: answers to a `detect` or `segment` prompt can only be objects with the labels in it.
        adapter: see `paligemma2.load`; a folder, or None.
        mask_codec: see `paligemma2.load`; None is its default, with which an answer whose masks it cannot
            decode is given without them.
        masks: decode masks even if nothing is drawn.
        annotate: a folder for copies of the pictures with the objects of the answer drawn on them, or None;
            small pictures are enlarged for it.
        sheet: a `.png` or `.html` file with all pictures and answers, or None.

    Raises:
        InputError: there is no picture, or settings do not go together.
    """

    images: tuple[Path, ...]
    model: str = "tiny"
    prompt: str = ""
    videos: frozenset[Path] = frozenset()
    num_frames: int = Clip.num_frames
    stride: int | None = None
    together: bool = False
    max_new_tokens: int | None = None
    decoding: Decoding = GREEDY
    batch_size: int = 8
    device: str = "auto"
    dtype: Dtype = "auto"
    quantize: Quantization | None = None
    tensor_parallel: bool = False
    adapter: Path | None = None
    constrained: bool = False
    mask_codec: Path | None = None
    masks: bool = False
    annotate: Path | None = None
    sheet: Path | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError("no image", hint="give at least one picture or a folder of pictures")
        for video in self.videos:
            check_clip(self.clip(video))
        if self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}", hint="give at least 1")
        if self.limit < 1:
            raise InputError(f"max_new_tokens is {self.limit}", hint="give at least 1")
        check_decoding(self.decoding)
        if self.constrained and self.form not in _GRAMMARS:
            raise InputError(
                f"the prompt {self.prompt!r} has no labels to constrain the answer to",
                hint="ask 'detect THING ; THING' or 'segment THING'",
            )
        if (self.annotate or self.sheet) and (self.videos or (self.together and len(self.images) > 1)):
            raise InputError(
                "objects of an answer about several pictures or a video cannot be drawn",
                hint="ask about each picture by itself",
            )
        if self.sheet is not None:
            check_sheet(self.sheet, self.images)
        if self.annotate is not None and self.annotate.exists() and not self.annotate.is_dir():
            raise InputError(f"{self.annotate} is not a folder", hint="give a folder for the drawn pictures")

    def clip(self, video: Path) -> Clip:
        """The frames of a video that are asked about."""
        return Clip(video, num_frames=self.num_frames, stride=self.stride)

    @property
    def requests(self) -> tuple[tuple[Path, ...], ...]:
        """The pictures of each question, in order."""
        return (self.images,) if self.together else tuple((image,) for image in self.images)

    @property
    def form(self) -> str:
        """The first word of the prompt."""
        return self.prompt.partition(" ")[0]

    @property
    def limit(self) -> int:
        """The most tokens of an answer."""
        return usual_limit(self.prompt) if self.max_new_tokens is None else self.max_new_tokens

    @property
    def needs_masks(self) -> bool:
        """Whether the masks of an answer are of use."""
        return self.masks or self.annotate is not None or self.sheet is not None


def usual_limit(prompt: str) -> int:
    """The most tokens of an answer to a prompt of this form, where nobody says otherwise."""
    return _LIMITS.get(prompt.partition(" ")[0], DEFAULT_MAX_NEW_TOKENS)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model wrote about one picture, or about several together.

    Attributes:
        images: the files.
        sizes: (height, width) of each picture in pixels, upright; a video has one for each frame.
        generation: the text and how it ended.
        parsed: the objects in it, with scores, and with masks if those are needed.
        annotated: the file with the objects drawn, or None.
        why_no_masks: what keeps masks in the answer from being decoded, or None.
    """

    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    generation: Generation
    parsed: ParsedAnswer
    annotated: Path | None = None
    why_no_masks: CheckpointError | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Pictures that could not be read, and why; the others are not affected."""

    images: tuple[Path, ...]
    error: PaliGemmaError


def run(
    config: PredictConfig, *, on_load: OnProgress | None = None, on_text: OnText | None = None
) -> Iterator[Answer | Failure]:
    """The answers in the order of the questions; a picture that cannot be read gives a `Failure`.

    The model is loaded when the first picture or frame is read, so that a wrong path costs no time.

    Args:
        config: what to ask about what.
        on_load: called while the weights are read, with the bytes done and in all.
        on_text: called with pieces of the text as it is decoded, if there is only one question.

    Raises:
        InputError: no such model or device, or the prompt does not fit into the model's context.
        ConfigError: the adapter has settings that are not supported.
        CheckpointError: the files of the model, of the adapter or of the given mask codec are damaged, or do
            not belong together.
        WorkError: a drawn picture cannot be written, or the device's memory is too small.
        MissingExtra: there is a video, and PyAV is not installed.
    """
    model = cache(partial(_load, config, on_load))
    drawings = Drawings(
        images=config.images, prompt=config.prompt, folder=config.annotate, sheet=config.sheet
    )
    streams = on_text is not None and len(config.requests) == 1
    for batch in _batches(config):
        opened = [_open(config, images, model) for images in batch]
        questions = [each.pictures for each in opened if isinstance(each, _Opened)]
        generations = iter(
            _generate(model(), config, questions, on_text if streams else None) if questions else ()
        )
        for images, each in zip(batch, opened, strict=True):
            if isinstance(each, ImageError):
                drawings.add_failure(images[0], each)
                yield Failure(images=images, error=each)
                continue
            answer = _answer(model(), config, images, each, next(generations))
            yield replace(answer, annotated=drawings.add(images[0], each.pictures[0], answer.parsed))
    drawings.finish()


@dataclass(frozen=True)
class _Opened:
    """The pictures of a question, frames of videos among them, and their sizes before they are resized."""

    pictures: tuple[Image.Image | NDArray[np.float32], ...]
    sizes: tuple[tuple[int, int], ...]


def _batches(config: PredictConfig) -> Iterator[list[tuple[Path, ...]]]:
    batch: list[tuple[Path, ...]] = []
    room = config.batch_size
    for images in config.requests:
        count = _num_pictures(config, images)
        if batch and count > room:
            yield batch
            batch, room = [], config.batch_size
        batch.append(images)
        room -= count
    yield batch


def _num_pictures(config: PredictConfig, images: tuple[Path, ...]) -> int:
    return sum(config.num_frames if image in config.videos else 1 for image in images)


def _open(
    config: PredictConfig, images: tuple[Path, ...], model: Callable[[], PaliGemma2]
) -> _Opened | ImageError:
    pictures: list[Image.Image | NDArray[np.float32]] = []
    sizes: list[tuple[int, int]] = []
    try:
        for image in images:
            if image in config.videos:
                clip = config.clip(image)
                sizes += [clip_size(clip)] * clip.num_frames  # before the model is loaded
                pictures += model().processor.frames(clip)
            else:
                picture = open_image(image)
                sizes.append((picture.height, picture.width))
                pictures.append(picture)
    except ImageError as error:
        return error
    return _Opened(tuple(pictures), tuple(sizes))


def _load(config: PredictConfig, on_load: OnProgress | None) -> PaliGemma2:
    model = load(
        config.model,
        device=config.device,
        dtype=config.dtype,
        quantize=config.quantize,
        mask_codec=config.mask_codec or "default",
        adapter=config.adapter,
        tensor_parallel=config.tensor_parallel,
        on_progress=on_load,
    )
    if not config.tensor_parallel:  # in which each process holds a share
        batches = ([_num_pictures(config, images) for images in batch] for batch in _batches(config))
        note_memory(model, batches, config.prompt, config.limit, config.decoding)
    return model


def _generate(
    model: PaliGemma2,
    config: PredictConfig,
    questions: Sequence[tuple[ImageSource, ...]],
    on_text: OnText | None,
) -> list[Generation]:
    constraint = _constraint(config, model.processor.tokenizer)
    try:
        if on_text is not None:
            return [_stream(model, config, questions[0], constraint, on_text)]
        count = len(questions)
        return model.generate(
            questions,
            [config.prompt] * count,
            config.limit,
            decoding=config.decoding,
            constraints=[constraint] * count,
        )
    except torch.OutOfMemoryError as error:
        raise WorkError(
            "the memory of the device is too small", hint="give a smaller batch size, or device cpu"
        ) from error


def _constraint(config: PredictConfig, tokenizer: Tokenizer) -> Constraint | None:
    if not config.constrained:
        return None
    labels = [label.strip() for label in config.prompt.removeprefix(config.form).split(";")]
    return _GRAMMARS[config.form](tokenizer, labels)


def _stream(
    model: PaliGemma2,
    config: PredictConfig,
    pictures: tuple[ImageSource, ...],
    constraint: Constraint | None,
    on_text: OnText,
) -> Generation:
    pieces = model.stream(
        pictures, config.prompt, config.limit, decoding=config.decoding, constraint=constraint
    )
    while True:
        try:
            on_text(next(pieces))
        except StopIteration as end:
            generation: Generation = end.value
            return generation


def _answer(
    model: PaliGemma2,
    config: PredictConfig,
    images: tuple[Path, ...],
    opened: _Opened,
    generation: Generation,
) -> Answer:
    sizes = opened.sizes
    # Of several pictures, which one a mask is in is open.
    size = sizes[0] if config.needs_masks and len(sizes) == 1 else None
    why_no_masks = None
    try:
        parsed = model.read(generation, size)
    except CheckpointError as error:
        if config.mask_codec is not None:
            raise
        parsed, why_no_masks = model.read(generation), error
    return Answer(images=images, sizes=sizes, generation=generation, parsed=parsed, why_no_masks=why_no_masks)
