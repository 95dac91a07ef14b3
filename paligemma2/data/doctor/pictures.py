"""Facts about the pictures of a data set, each decoded once, by processes that know nothing of torch."""

import hashlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from paligemma2.data.near_duplicates import Signature, signature
from paligemma2.errors import ImageError, WorkError
from paligemma2.processing.image import MAX_FILE_BYTES, open_image

_SMALL = 256  # pictures that are decoded sooner than a process starts
_CHUNK = 32
_CHUNKS_AHEAD = 4  # for each process: what bounds the encoded pictures in memory
_ORIENTATION = 0x0112
_UPRIGHT = (None, 1)
_MEANING = {
    "1": "black and white",
    "L": "grey",
    "P": "a palette",
    "CMYK": "ink colours, converted roughly",
    "LA": "grey, transparency is dropped",
    "PA": "a palette, transparency is dropped",
    "RGBA": "transparency is dropped: what is under it is seen",
}
_SIXTEEN_BITS = "16 bits, of which the high 8 are seen"

PictureSource: TypeAlias = Path | bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFacts:
    """What one picture is.

    Attributes:
        rule: "missing-image", "corrupt-image", or "" for a picture that can be read.
        message: why it cannot be read.
        height: in pixels, upright; 0 if it cannot be read.
        width: the same.
        mode: what is unusual about its colours; "" for plain RGB.
        is_turned: the file says by EXIF that it lies on its side or stands on its head.
        digest: of the encoded bytes, 16 bytes; empty if there are none.
        signature: for near duplicates; None if it cannot be read.
    """

    rule: str = ""
    message: str = ""
    height: int = 0
    width: int = 0
    mode: str = ""
    is_turned: bool = False
    digest: bytes = b""
    signature: Signature | None = None


def examine_picture(source: PictureSource) -> PictureFacts:
    """The facts about one picture, read from a file or from its encoded bytes; never raises for a bad one."""
    if isinstance(source, bytes):
        return _examine(source, f"{len(source)} bytes")
    try:
        data = _read(source)
    except FileNotFoundError:
        return PictureFacts(rule="missing-image", message=f"{source} is missing")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return PictureFacts(rule="corrupt-image", message=f"{source} cannot be read: {error}")
    return _examine(data, str(source))


def examine_pictures(
    sources: Iterable[tuple[int, PictureSource]], *, num_workers: int = 2
) -> Iterator[tuple[int, PictureFacts]]:
    """The facts about numbered pictures, in their order, with few of them in memory at once.

    Args:
        sources: taken as they are needed; each should be another picture.
        num_workers: processes that decode; 0 decodes here, as does a small number of pictures.

    Raises:
        WorkError: a process was killed.
    """
    remaining = iter(sources)
    head = list(islice(remaining, _SMALL))
    if num_workers < 1 or len(head) < _SMALL:
        for number, source in chain(head, remaining):
            yield number, examine_picture(source)
        return
    # A forked process would inherit the locks of torch's and rich's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_ignore_stop_requests)
    try:
        yield from _in_order(pool, chain(head, remaining), num_workers * _CHUNKS_AHEAD)
    except BrokenProcessPool as error:
        raise WorkError(
            "a process that decodes pictures was killed",
            hint="the memory may be too small; decode in one process with --workers 0",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _examine(data: bytes, name: str) -> PictureFacts:
    digest = hashlib.blake2b(data, digest_size=16).digest()
    try:
        upright = open_image(data)
    except ImageError as error:
        reason = error.message.partition(": ")[2] or error.message
        return PictureFacts(rule="corrupt-image", message=f"{name}: {reason}", digest=digest)
    mode, is_turned = _header(data)
    return PictureFacts(
        height=upright.height,
        width=upright.width,
        mode=mode,
        is_turned=is_turned,
        digest=digest,
        signature=signature(upright),
    )


def _in_order(
    pool: ProcessPoolExecutor, sources: Iterator[tuple[int, PictureSource]], ahead: int
) -> Iterator[tuple[int, PictureFacts]]:
    waiting: deque[tuple[list[int], Future[list[PictureFacts]]]] = deque()
    while True:
        chunk = list(islice(sources, _CHUNK))
        if chunk:
            numbers = [number for number, _ in chunk]
            waiting.append((numbers, pool.submit(_examine_all, [source for _, source in chunk])))
        while waiting and (not chunk or len(waiting) > ahead):
            numbers, future = waiting.popleft()
            yield from zip(numbers, future.result(), strict=True)
        if not chunk:
            return


def _examine_all(sources: Sequence[PictureSource]) -> list[PictureFacts]:
    return [examine_picture(source) for source in sources]


def _ignore_stop_requests() -> None:
    """Ctrl-C reaches the whole process group; the parent ends its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)  # one byte more: `open_image` tells what is too large


def _header(data: bytes) -> tuple[str, bool]:
    """What is unusual about the colours, and whether EXIF turns the picture."""
    with Image.open(BytesIO(data)) as image:
        meaning = _SIXTEEN_BITS if image.mode.startswith("I") else _MEANING.get(image.mode, "")
        if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
            meaning = f"{meaning or 'colours'}, transparency is dropped"
        mode = f"{image.mode}: {meaning}" if meaning else ("" if image.mode == "RGB" else image.mode)
        return mode, _orientation(image) not in _UPRIGHT


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a picture with broken EXIF data is still a picture
        return None
