"""What a model writes about the examples of a task: batch by batch, kept as it comes."""

import math
import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

import torch

from paligemma2.errors import DataError, ImageError, InputError, Interrupted, WorkError
from paligemma2.evaluation.examples import EvaluationExample
from paligemma2.evaluation.predictions import Prediction, PredictionsFile
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.training.interruption import StopRequest, stop_request
from paligemma2.types import Clip, Decoding, EditedPicture, FilePart, ImageSource, TableCell

_AHEAD = 2  # batches whose pictures are read while the model writes
_Pixels: TypeAlias = tuple[ImageSource, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An example with a name of its own.

    Attributes:
        id: each once among the examples of a split.
        index: its place among them.
        example: what is asked, and what is right.
    """

    id: str
    index: int
    example: EvaluationExample


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """An example with a picture that cannot be read, and why; it has no prediction."""

    id: str
    image: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PredictProgress:
    """How far predicting is.

    Attributes:
        done: examples of this process that have a prediction, those of earlier starts included.
        total: examples of this process.
        rate: predictions per second since this start; 0 before the first.
        seconds_left: at this rate; None before the first.
    """

    done: int
    total: int
    rate: float
    seconds_left: float | None


OnPredict: TypeAlias = Callable[[PredictProgress], None]


def asked(examples: Sequence[EvaluationExample]) -> tuple[Asked, ...]:
    """The examples with ids of which each is there once: of equal ones the second is "7#2", and so on."""
    seen: dict[str, int] = {}
    named = []
    for index, each in enumerate(examples):
        name = each.example.id or str(index)
        seen[name] = seen.get(name, 0) + 1
        own = name if seen[name] == 1 else f"{name}#{seen[name]}"
        named.append(Asked(id=own, index=index, example=each))
    return tuple(named)


def with_shuffled_pictures(examples: Sequence[Asked], *, seed: int) -> tuple[Asked, ...]:
    """Each question with the pictures of another one: a control, for what a model answers without looking.

    All questions about the same pictures get the same other ones.

    Raises:
        DataError: all questions are about the same pictures.
    """
    keys = list(dict.fromkeys(_key(each.example.example.images) for each in examples))
    if len(keys) < 2:
        raise DataError(
            "all questions are about the same pictures, so these cannot be shuffled",
            hint="take more examples, or another control",
        )
    random.Random(seed).shuffle(keys)
    other = dict(zip(keys, [*keys[1:], keys[0]], strict=True))
    images = {_key(each.example.example.images): each.example.example.images for each in examples}
    return tuple(
        replace(
            each,
            example=replace(
                each.example,
                example=replace(
                    each.example.example, images=images[other[_key(each.example.example.images)]]
                ),
            ),
        )
        for each in examples
    )


def predict_batch(
    predictor: PaliGemma2, batch: Sequence[Asked], decoding: Decoding
) -> list[Prediction | Unreadable]:
    """What the model writes about some examples, in their order; nothing is kept anywhere.

    Args:
        predictor: with the caps, window and resize of the protocol.
        batch: asked at once.
        decoding: how tokens are chosen; answers are shorter where the model's context ends.

    Raises:
        InputError: a prompt does not fit the model.
        MissingExtra: there is a video, and PyAV is not installed.
        WorkError: the memory of the device is too small.
    """
    return _written(predictor, batch, _opened(predictor, batch), decoding)


def predict_examples(
    predictor: PaliGemma2,
    examples: Sequence[Asked],
    file: PredictionsFile,
    decoding: Decoding,
    *,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    num_done: int = 0,
    on_progress: OnPredict = lambda progress: None,
) -> list[Unreadable]:
    """Predict examples and add each batch to a file; what is there of earlier starts is not looked at.

    The first Ctrl-C or SIGTERM ends it after the batch that is being made.

    Args:
        predictor: with the caps, window and resize of the protocol.
        examples: of this process, without those that have a prediction already.
        file: of the split.
        decoding: how tokens are chosen.
        batch_size: examples that are asked at once.
        rank: number of this process among those that write parts of the file.
        processes: how many these are.
        num_done: predictions of earlier starts, for the progress.
        on_progress: told before the first batch and after each.

    Returns:
        The examples with pictures that cannot be read.

    Raises:
        Interrupted: it was asked to stop; all that was predicted is in the file.
        InputError: a prompt does not fit the model.
        WorkError: the disk is full, or the memory of the device too small.
    """
    batches = [list(examples[i : i + batch_size]) for i in range(0, len(examples), batch_size)]
    total, done = num_done + len(examples), num_done
    unreadable: list[Unreadable] = []
    begin = time.monotonic()
    on_progress(_progress(done, total, 0, 0.0))
    with stop_request() as stop:
        for batch, pictures in _read_ahead(predictor, batches):
            found = _written(predictor, batch, pictures, decoding)
            file.append(
                [each for each in found if isinstance(each, Prediction)], rank=rank, processes=processes
            )
            unreadable += [each for each in found if isinstance(each, Unreadable)]
            done += len(batch)
            on_progress(_progress(done, total, done - num_done, time.monotonic() - begin))
            _check_stop(stop, done, total, file.path)
    return unreadable


def image_name(image: ImageSource | Clip) -> str:
    """What a picture is called in predictions and lists of missing pictures."""
    if isinstance(image, Clip):
        inner = image_name(image.source)
        if image.start == 0.0 and image.end is None:
            return inner
        return f"{inner} [{image.start:g}-{'' if image.end is None else f'{image.end:g}'}]"
    if isinstance(image, FilePart):
        return f"{image.path}:{image.offset}+{image.size}"
    if isinstance(image, TableCell):
        return f"{image.path}:row {image.row} of {image.column}"
    if isinstance(image, EditedPicture):
        return image_name(image.source)
    if isinstance(image, str | Path):
        return str(image)
    return f"a {type(image).__name__}"


def _check_stop(stop: StopRequest, done: int, total: int, path: Path) -> None:
    if stop.signal_number and done < total:
        raise Interrupted(
            f"stopped; {done} of {total} predictions are in {path.parent}",
            signal_number=stop.signal_number,
            hint="the same command goes on from there",
        )


def _progress(done: int, total: int, new: int, seconds: float) -> PredictProgress:
    rate = new / seconds if new and seconds > 0 else 0.0
    return PredictProgress(
        done=done, total=total, rate=rate, seconds_left=(total - done) / rate if rate else None
    )


def _read_ahead(
    predictor: PaliGemma2, batches: Sequence[list[Asked]]
) -> Iterator[tuple[list[Asked], list[_Pixels | Unreadable]]]:
    """The batches with their pictures, which a thread reads while the model is busy with those before."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: list[Future[list[_Pixels | Unreadable]]] = []
        try:
            for place, batch in enumerate(batches):
                next_ones = batches[place + len(waiting) : place + 1 + _AHEAD]
                waiting.extend(pool.submit(_opened, predictor, each) for each in next_ones)
                yield batch, waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _opened(predictor: PaliGemma2, batch: Sequence[Asked]) -> list[_Pixels | Unreadable]:
    """The pixels of each example; a picture that several ask about is read once."""
    read: dict[Hashable, _Pixels | ImageError] = {}
    return [_pixels(predictor, each, read) for each in batch]


def _pixels(
    predictor: PaliGemma2, each: Asked, read: dict[Hashable, _Pixels | ImageError]
) -> _Pixels | Unreadable:
    frames: list[ImageSource] = []
    for image in each.example.example.images:
        key = _key((image,))
        if key not in read:
            read[key] = _frames(predictor, image)
        found = read[key]
        if isinstance(found, ImageError):
            return Unreadable(id=each.id, image=image_name(image), reason=found.message)
        frames += found
    return tuple(frames)


def _frames(predictor: PaliGemma2, image: ImageSource | Clip) -> _Pixels | ImageError:
    try:
        if isinstance(image, Clip):
            return tuple(predictor.processor.frames(image))
        return (predictor.processor.pixels(image),)
    except ImageError as error:
        return error


def _written(
    predictor: PaliGemma2,
    batch: Sequence[Asked],
    pictures: Sequence[_Pixels | Unreadable],
    decoding: Decoding,
) -> list[Prediction | Unreadable]:
    begin = time.monotonic()
    usable = [
        (each, pixels)
        for each, pixels in zip(batch, pictures, strict=True)
        if not isinstance(pixels, Unreadable)
    ]
    if not usable:
        return [each for each in pictures if isinstance(each, Unreadable)]
    limit = min(decoding.max_new_tokens, _room(predictor, usable))
    try:
        generations = predictor.generate(
            [list(pixels) for _, pixels in usable],
            [each.example.example.prefix for each, _ in usable],
            decoding=replace(decoding, max_new_tokens=limit),
        )
    except torch.OutOfMemoryError as error:
        raise WorkError(
            "the memory of the device is too small", hint="give a smaller batch size, or device cpu"
        ) from error
    seconds = (time.monotonic() - begin) / len(usable)
    made: dict[str, Prediction] = {}
    for (each, _), generation in zip(usable, generations, strict=True):
        reference = each.example.reference
        made[each.id] = Prediction(
            id=each.id,
            index=each.index,
            prompt=each.example.example.prefix,
            prediction=generation.text,
            answers=reference.answers,
            meta=reference.meta,
            unit=reference.unit,
            images=tuple(map(image_name, each.example.example.images)),
            finish_reason=generation.finish_reason,
            log_prob=round(math.fsum(generation.log_probs), 6),
            seconds=round(seconds, 6),
        )
    return [
        pixels if isinstance(pixels, Unreadable) else made[each.id]
        for each, pixels in zip(batch, pictures, strict=True)
    ]


def _room(predictor: PaliGemma2, usable: Sequence[tuple[Asked, _Pixels]]) -> int:
    """How many tokens the context has behind the longest prompt.

    Raises:
        InputError: a prompt leaves none.
    """
    context = predictor.config.text.max_positions
    room = context
    for each, pixels in usable:
        length = len(predictor.processor.prompt_ids(each.example.example.prefix, len(pixels)))
        if length >= context:
            raise InputError(
                f"the prompt of example {each.id} has {length} tokens, the model's context is {context}",
                hint="evaluate a model with a longer context",
            )
        room = min(room, context - length)
    return room


def _key(images: Sequence[ImageSource | Clip]) -> Hashable:
    """Equal for the same pictures; pictures in memory are told apart by their place in it."""
    return tuple(map(_key_of, images))


def _key_of(image: ImageSource | Clip) -> Hashable:
    try:
        hash(image)
    except TypeError:
        return id(image)
    return cast(Hashable, image)
