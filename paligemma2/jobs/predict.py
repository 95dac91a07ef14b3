"""Pictures and a prompt to answers, in batches, as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin

from paligemma2.checkpoint.atomic import new_file
from paligemma2.checkpoint.weights import OnProgress
from paligemma2.drawing.boxes import draw_detections
from paligemma2.errors import ImageError, InputError, PaliGemmaError, WorkError
from paligemma2.inference.predictor import DEFAULT_MAX_NEW_TOKENS, Dtype, PaliGemma2, load
from paligemma2.processing.image import open_image
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Generation, ParsedAnswer

OnText = Callable[[str], None]
# Formats that Pillow knows by name, but that are no pictures or need a program of their own to be read.
_NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_MARK = ("Software", "paligemma2 predict")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What `run` needs.

    Attributes:
        model: "tiny", a folder, a `.npz` or a hub id.
        images: files; `find_pictures` finds those in a folder.
        prompt: is asked about each picture.
        together: ask once about all pictures, in order.
        max_new_tokens: where to stop a model that does not end by itself.
        batch_size: pictures that are asked about at once.
        device: see `paligemma2.load`.
        dtype: see `paligemma2.load`.
        annotate: a folder for copies of the pictures with the boxes of the answer drawn on them, or None.

    Raises:
        InputError: there is no picture, or settings do not go together.
    """

    images: tuple[Path, ...]
    model: str = "tiny"
    prompt: str = ""
    together: bool = False
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    batch_size: int = 8
    device: str = "auto"
    dtype: Dtype = "auto"
    annotate: Path | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError("no image", hint="give at least one picture or a folder of pictures")
        if self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}", hint="give at least 1")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {self.max_new_tokens}", hint="give at least 1")
        if self.annotate is not None and self.together and len(self.images) > 1:
            raise InputError(
                "boxes of an answer about several pictures cannot be drawn",
                hint="ask about each picture by itself",
            )
        if self.annotate is not None and self.annotate.exists() and not self.annotate.is_dir():
            raise InputError(f"{self.annotate} is not a folder", hint="give a folder for the drawn pictures")

    @property
    def requests(self) -> tuple[tuple[Path, ...], ...]:
        """The pictures of each question, in order."""
        return (self.images,) if self.together else tuple((image,) for image in self.images)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model wrote about one picture, or about several together.

    Attributes:
        images: the files.
        sizes: (height, width) of each picture in pixels, upright.
        generation: the text and how it ended.
        parsed: the objects in it.
        annotated: the file with the boxes drawn, or None.
    """

    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    generation: Generation
    parsed: ParsedAnswer
    annotated: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Pictures that could not be read, and why; the others are not affected."""

    images: tuple[Path, ...]
    error: PaliGemmaError


def find_pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files among `paths` as they are, and for each folder the pictures in it and below, sorted.

    In a folder the names decide: endings that Pillow reads, no hidden files.

    Raises:
        InputError: a folder has no picture in it.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if _is_picture(file, path))
        if not inside:
            raise InputError(f"{path}: no picture in this folder", hint="give pictures, or another folder")
        found += inside
    return tuple(found)


def run(
    config: PredictConfig, *, on_load: OnProgress | None = None, on_text: OnText | None = None
) -> Iterator[Answer | Failure]:
    """The answers in the order of the questions; a picture that cannot be read gives a `Failure`.

    The model is loaded when the first pictures are read, so that a wrong path costs no time.

    Args:
        config: what to ask about what.
        on_load: called while the weights are read, with the bytes done and in all.
        on_text: called with pieces of the text as it is decoded, if there is only one question.

    Raises:
        InputError: no such model or device, or the prompt does not fit into the model's context.
        CheckpointError: the model's files are damaged.
        WorkError: an annotated picture cannot be written, or the device's memory is too small.
    """
    model: PaliGemma2 | None = None
    names = _Names(config)
    requests = iter(config.requests)
    streams = on_text is not None and len(config.requests) == 1
    while batch := list(islice(requests, config.batch_size)):
        opened = [_open(images) for images in batch]
        questions = [pictures for pictures in opened if not isinstance(pictures, ImageError)]
        if questions and model is None:
            model = load(config.model, device=config.device, dtype=config.dtype, on_progress=on_load)
        generations = iter(_generate(model, config, questions, on_text if streams else None))
        for images, pictures in zip(batch, opened, strict=True):
            if isinstance(pictures, ImageError):
                yield Failure(images=images, error=pictures)
            else:
                yield _answer(images, pictures, next(generations), names)


def _is_picture(file: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not is_hidden and file.suffix.lower() in _endings() and file.is_file()


def _endings() -> set[str]:
    known = Image.registered_extensions().items()  # also registers the formats in Image.OPEN
    return {ending for ending, name in known if name in Image.OPEN and name not in _NOT_PICTURES}


def _open(images: tuple[Path, ...]) -> tuple[Image.Image, ...] | ImageError:
    try:
        return tuple(open_image(image) for image in images)
    except ImageError as error:
        return error


def _generate(
    model: PaliGemma2 | None,
    config: PredictConfig,
    questions: Sequence[tuple[Image.Image, ...]],
    on_text: OnText | None,
) -> list[Generation]:
    if model is None or not questions:
        return []
    try:
        if on_text is not None:
            return [_stream(model, config, questions[0], on_text)]
        return model.generate(questions, [config.prompt] * len(questions), config.max_new_tokens)
    except torch.OutOfMemoryError as error:
        raise WorkError(
            "the memory of the device is too small", hint="give a smaller batch size, or device cpu"
        ) from error


def _stream(
    model: PaliGemma2, config: PredictConfig, pictures: tuple[Image.Image, ...], on_text: OnText
) -> Generation:
    pieces = model.stream(pictures, config.prompt, config.max_new_tokens)
    while True:
        try:
            on_text(next(pieces))
        except StopIteration as end:
            generation: Generation = end.value
            return generation


def _answer(
    images: tuple[Path, ...], pictures: tuple[Image.Image, ...], generation: Generation, names: "_Names"
) -> Answer:
    parsed = parse_answer(generation.text)
    annotated = names.of(images[0])
    if annotated is not None:
        _write_png(draw_detections(pictures[0], parsed.detections), annotated)
    return Answer(
        images=images,
        sizes=tuple((picture.height, picture.width) for picture in pictures),
        generation=generation,
        parsed=parsed,
        annotated=annotated,
    )


def _write_png(picture: Image.Image, path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text(*_MARK)
    with new_file(path, overwrite=True) as partial:
        picture.save(partial, format="PNG", pnginfo=about)


class _Names:
    """Names for annotated pictures: never that of an input, of another picture, or of a stranger's file."""

    def __init__(self, config: PredictConfig) -> None:
        self._folder = config.annotate
        self._inputs = {image.resolve() for image in config.images} if config.annotate else set()
        self._taken: set[str] = set()

    def of(self, image: Path) -> Path | None:
        """Where the picture drawn for `image` goes; None if none is wanted."""
        if self._folder is None:
            return None
        number, path = 1, self._folder / f"{image.stem}.png"
        while not self._is_free(path):
            number += 1
            path = self._folder / f"{image.stem}-{number}.png"
        self._taken.add(path.name.lower())  # some file systems do not tell A.png from a.png
        return path

    def _is_free(self, path: Path) -> bool:
        if path.name.lower() in self._taken or path.resolve() in self._inputs:
            return False
        return not path.exists() or _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether an earlier run wrote this file, so that it may be replaced."""
    try:
        with Image.open(path) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except Exception:  # Pillow's readers raise whatever a foreign file leads them to
        return False
