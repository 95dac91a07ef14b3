"""Any picture to the float pixels that the image encoder reads.

Decoding is safe: file size and pixel count are checked before a pixel is decoded. Resizing squashes to a
square, as in training; how exactly is a `Resize`.
"""

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from paligemma2.errors import ConfigError, ImageError
from paligemma2.processing.painted import edit
from paligemma2.processing.stored import read_cell, read_part
from paligemma2.types import EditedPicture, FilePart, ImageSource, TableCell

MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 64 * 1024 * 1024
_NOT_AN_IMAGE = "give a JPEG, PNG, WebP, GIF, TIFF or BMP picture; the file may be damaged or cut short"
_TOO_LARGE = "make the picture smaller; the model sees at most 896 × 896 pixels"
_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# The warning filters of Python belong to the process, not to a thread.
_warning_filter = threading.Lock()
# float32 value of each uint8, in the steps and roundings of Hugging Face: x · (1/255), then (x - 0.5) / 0.5.
_SCALED = ((np.arange(256) * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)


@dataclass(frozen=True)
class Resize:
    """How a picture becomes a square.

    Args:
        method: interpolation.
        antialias: average over all source pixels when shrinking; False samples (TensorFlow's default).
        convention: "hugging_face" resizes uint8 with Pillow, rounded; "big_vision" resizes float with
            half-pixel centres and cuts the fraction off.
        keep_fraction: leave the values between whole numbers, as big_vision does with frames of videos.

    Raises:
        ConfigError: the convention has no such resize.
    """

    method: Literal["bicubic", "bilinear"]
    antialias: bool = True
    convention: Literal["hugging_face", "big_vision"] = "big_vision"
    keep_fraction: bool = False

    def __post_init__(self) -> None:
        if self.convention == "hugging_face" and (self.keep_fraction or not self.antialias):
            raise ConfigError(
                "Pillow always resizes with antialias, and to whole numbers",
                hint="leave antialias and keep_fraction as they are, or use big_vision",
            )
        if self.convention == "big_vision" and self.method != "bilinear":
            raise ConfigError(f"big_vision has no {self.method} resize here", hint="use bilinear")


HF = Resize("bicubic", convention="hugging_face")
BIG_VISION = Resize("bilinear")
BIG_VISION_NO_ANTIALIAS = Resize("bilinear", antialias=False)
VIDEO_FRAME = Resize("bilinear", antialias=False, keep_fraction=True)
"""big_vision's of every frame of a video (`pp/proj/paligemma/video.py`, `video_decode`)."""


def open_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_file_bytes: int = MAX_FILE_BYTES
) -> Image.Image:
    """An upright RGB picture from a file or a part of one, its bytes, a Pillow image or a uint8 array.

    An `EditedPicture` comes turned and with its labels; its outline is drawn after the resize.

    EXIF orientation is applied. Of several frames the first is taken. Transparency is dropped, not blended
    (Pillow's `convert("RGB")`, as Hugging Face does); 16-bit grey keeps its high byte; palettes, grey and
    CMYK are converted by Pillow.

    Args:
        source: path, `FilePart`, `TableCell`, `EditedPicture`, encoded bytes, `PIL.Image.Image`, or uint8
            array [height, width], [height, width, 3] or [height, width, 4].
        max_pixels: limit on height × width, checked before decoding.
        max_file_bytes: limit on the encoded size, checked before reading.

    Raises:
        ImageError: the picture is missing, damaged, of an unknown format, empty, or over a limit.
        MissingExtra: it is in a parquet file, and pyarrow is not installed.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        name = f"image of type {type(source).__name__}"
        _check_size(source.width, source.height, name, max_pixels)
        return _to_rgb(source, name)
    if isinstance(source, bytes):
        name = f"image of {len(source)} bytes"
        _check_bytes(len(source), name, max_file_bytes)
        return _decode(BytesIO(source), name, max_pixels)
    if isinstance(source, EditedPicture):
        return edit(open_image(source.source, max_pixels=max_pixels, max_file_bytes=max_file_bytes), source)
    if isinstance(source, FilePart):
        name = f"{source.path}, {source.size} bytes at {source.offset}"
        return _decode(BytesIO(read_part(source, max_file_bytes)), name, max_pixels)
    if isinstance(source, TableCell):
        name = f"{source.path}, row {source.row} of {source.column}"
        return _decode(BytesIO(read_cell(source, max_file_bytes)), name, max_pixels)
    if isinstance(source, str | Path):
        return _from_file(Path(source), max_pixels, max_file_bytes)
    raise ImageError(
        f"a {type(source).__name__} is not an image",
        hint="give a path, bytes, a Pillow image or a uint8 array",
    )


def image_to_array(image: Image.Image, size: int, resize: Resize = HF) -> NDArray[np.float32]:
    """The pixels that the encoder reads: float32 [3, size, size] in [-1, 1].

    Args:
        image: RGB, any size; squashed to a square.
        size: side in pixels: 224, 448 or 896 for the released checkpoints.
        resize: HF equals transformers' Pillow-based SigLIP processor bit for bit.
    """
    if resize.convention == "hugging_face":
        method = Image.Resampling.BICUBIC if resize.method == "bicubic" else Image.Resampling.BILINEAR
        return scale_pixels(np.asarray(image.resize((size, size), method)))
    planes = _resize_as_big_vision(np.asarray(image), size, resize.antialias)
    if resize.keep_fraction:
        return np.ascontiguousarray(np.stack(list(planes)) * np.float32(2 / 255) - np.float32(1))
    # 199.99998 is 200 with the noise of float32, and must not be cut to 199.
    cut = [(plane + np.float32(1e-3)).clip(0, 255).astype(np.uint8) for plane in planes]
    return scale_pixels(np.stack(cut, axis=2))


def scale_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [height, width, 3] as float32 [3, height, width] in [-1, 1]."""
    # Bytes are turned before they become four times as many, and none can be out of range.
    return np.take(_SCALED, np.ascontiguousarray(pixels.transpose(2, 0, 1)), mode="clip")


def _resize_as_big_vision(
    pixels: NDArray[np.uint8], size: int, antialias: bool
) -> Iterator[NDArray[np.float32]]:
    """The channels one after the other, float32 [size, size], 0 to 255."""
    import torch
    from torch.nn.functional import interpolate

    for channel in range(3):  # one at a time: a float copy of a 50 megapixel picture is 600 MB
        plane = torch.from_numpy(pixels[:, :, channel].astype(np.float32))[None, None]
        values = interpolate(plane, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
        yield values[0, 0].numpy()


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    name = f"array {list(array.shape)} of {array.dtype}"
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
    ):
        raise ImageError(
            f"{name} is not an image",
            hint="give uint8 [height, width], [height, width, 3] or [height, width, 4]",
        )
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _from_file(path: Path, max_pixels: int, max_file_bytes: int) -> Image.Image:
    try:
        if not path.exists():
            raise ImageError(f"{path}: no such file", hint="check the path")
        if not path.is_file():
            raise ImageError(f"{path}: not a file", hint="give the picture itself")
        _check_bytes(path.stat().st_size, str(path), max_file_bytes)
        with path.open("rb") as file:
            return _decode(file, str(path), max_pixels)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(
            f"{path}: cannot be read ({error})", hint="check the path and its permissions"
        ) from error


def _decode(file: Any, name: str, max_pixels: int) -> Image.Image:
    try:
        with _warning_filter, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file)  # reads the header only
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: far over the limit of {max_pixels} pixels", hint=_TOO_LARGE) from error
    except Exception as error:  # Pillow's readers raise whatever a damaged header leads them to
        raise ImageError(f"{name}: not a readable image", hint=_NOT_AN_IMAGE) from error
    with image:
        if image.format == "EPS":
            raise ImageError(f"{name}: PostScript is a program, not pixels", hint="convert it to PNG first")
        _check_size(image.width, image.height, name, max_pixels)
        return _to_rgb(image, name)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
        image = _upright(image)
        if image.mode in _SIXTEEN_BITS:
            values = np.asarray(image).astype(np.int64).clip(0, 0xFFFF)
            image = Image.fromarray((values >> 8).astype(np.uint8))
        if image.mode == "F":
            raise ImageError(
                f"{name}: floating-point pixels have no agreed range", hint="save it with 8 bits"
            )
        if image.mode == "RGB" and "transparency" not in image.info:
            return image.copy()
        image = image.copy()
        image.info.pop("transparency", None)  # makes Pillow warn, and changes no colour
        return image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(f"{name}: damaged image ({error})", hint=_NOT_AN_IMAGE) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture with broken EXIF data is still a picture
        return image


def _check_bytes(size: int, name: str, limit: int) -> None:
    if size > limit:
        raise ImageError(f"{name}: {size} bytes, the limit is {limit}", hint=_TOO_LARGE)


def _check_size(width: int, height: int, name: str, limit: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(
            f"{name}: {width} × {height} pixels, nothing to see", hint="give a picture with pixels"
        )
    if width * height > limit:
        raise ImageError(
            f"{name}: {width} × {height} = {width * height} pixels, the limit is {limit}", hint=_TOO_LARGE
        )
