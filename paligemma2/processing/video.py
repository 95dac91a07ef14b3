"""A video to the frames that the image encoder reads, with PyAV (the extra `video`).

Frames are decoded one after the other, each that is wanted is resized at once, and nothing else is kept: a
clip costs the memory of its resized frames, however long and large it is.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paligemma2.errors import ImageError, InputError
from paligemma2.optional import require
from paligemma2.processing.image import MAX_PIXELS, VIDEO_FRAME, image_to_array
from paligemma2.types import Clip

SUFFIXES = (
    ".3gp",
    ".avi",
    ".flv",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)
# No playlists, which name other files and hosts, and nothing that makes a picture of text.
_FORMATS = "asf,avi,flv,gif,matroska,mov,mpeg,mpegts,ogg,webm"
_NOT_A_VIDEO = "give an MP4, MOV, MKV, WebM, AVI or MPEG video; the file may be damaged or cut short"
_COMPLETE = 0.9  # of the frames and the seconds that the file promises; less is a file cut short


def frame_indices(length: int, num_frames: int, stride: int | None) -> tuple[int, ...]:
    """Which frames of a clip are taken, in order.

    Args:
        length: frames in the clip, at least 1.
        num_frames: how many are taken.
        stride: the first frame and every so many-th after it; where the clip ends, the frames so far are
            repeated from the first (big_vision's configurations and `video_replicate_img`). None takes the
            middle frame of each of `num_frames` equal parts of the clip.
    """
    if stride is None:
        return tuple((2 * part + 1) * length // (2 * num_frames) for part in range(num_frames))
    different = range(0, length, stride)[:num_frames]
    return tuple(different[place % len(different)] for place in range(num_frames))


def check_clip(clip: Clip) -> None:
    """Nothing, if the numbers of the clip make sense.

    Raises:
        InputError: they do not.
    """
    for name, value in (("num_frames", clip.num_frames), ("stride", clip.stride)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}", hint="give at least 1")
    if not 0 <= clip.start < (math.inf if clip.end is None else clip.end):
        raise InputError(
            f"the clip starts at {clip.start} s and ends at {clip.end} s",
            hint="give seconds from the beginning of the video, start before end",
        )


def clip_size(clip: Clip) -> tuple[int, int]:
    """(height, width) in pixels of the clip's frames, upright; its first frame is decoded for it.

    Raises:
        InputError, ImageError, MissingExtra: as `read_clip`.
    """
    check_clip(clip)
    for frame in _frames(clip):
        return (frame.width, frame.height) if _quarter_turns(frame) % 2 else (frame.height, frame.width)
    raise _no_frames(clip)


def read_clip(clip: Clip, size: int) -> tuple[NDArray[np.float32], ...]:
    """The frames of a clip as the encoder reads them, `clip.num_frames` × float32 [3, size, size] in [-1, 1].

    Frames are turned upright, squashed to a square bilinearly without antialias, and not rounded
    (`VIDEO_FRAME`). A frame that comes several times is the same object each time.

    Args:
        clip: what to read.
        size: side in pixels that the model reads.

    Raises:
        InputError: a number of the clip makes no sense.
        ImageError: the video is missing, damaged, cut short, of an unknown format, without frames in the
            given time, or its frames have too many pixels.
        MissingExtra: PyAV is not installed.
    """
    check_clip(clip)
    if clip.stride is None:
        with _opened(clip) as video:
            length = video.count()
    else:
        length = clip.num_frames * clip.stride
    frames: dict[int, NDArray[np.float32]] = {}
    while length:
        indices = frame_indices(length, clip.num_frames, clip.stride)
        if frames.keys() >= set(indices):
            return tuple(frames[i] for i in indices)
        frames, length = _resized(clip, set(indices), length, size)
    raise _no_frames(clip)


def _resized(
    clip: Clip, wanted: set[int], length: int, size: int
) -> tuple[dict[int, NDArray[np.float32]], int]:
    """The frames at these places, and the length of the clip: another than given if some are not there."""
    kept: dict[int, NDArray[np.float32]] = {}
    seen = 0
    for place, frame in enumerate(_frames(clip)):
        if place in wanted:
            kept[place] = image_to_array(_upright(frame), size, VIDEO_FRAME)
            if len(kept) == len(wanted):
                return kept, length
        seen = place + 1
    return kept, seen


def _frames(clip: Clip) -> Iterator[Any]:
    """The decoded frames of a clip."""
    seek = False
    if clip.start > 0:
        with _opened(clip) as video:
            seek = video.can_seek()
    with _opened(clip) as video:
        yield from video.frames(seek=seek)


@dataclass(frozen=True)
class _Video:
    """A video that is open, and the part of it that is of interest."""

    container: Any
    stream: Any
    name: str
    start: float
    end: float

    def seconds(self, timed: Any) -> float:
        """When a frame or packet is shown, from the beginning of the video."""
        if timed.pts is None:
            if self.start > 0 or self.end < math.inf:
                raise ImageError(
                    f"{self.name}: its frames have no times", hint="leave start and end away, or convert it"
                )
            return 0.0
        return float((timed.pts - (self.stream.start_time or 0)) * self.stream.time_base)

    def count(self) -> int:
        """Frames of the part, by what the file says: none is decoded, and damaged ones count too."""
        times = [self.seconds(packet) for packet in self.container.demux(self.stream) if packet.size]
        self._check_complete(len(times), max(times, default=0.0))
        return sum(self.start <= time < self.end for time in times)

    def frames(self, *, seek: bool) -> Iterator[Any]:
        """The frames of the part, in the order in which they are shown.

        Args:
            seek: begin at a key frame before the part, as the file's index has it, not at the first frame.
        """
        if seek:
            self.seek()
        count, last = 0, 0.0
        for frame in self.container.decode(self.stream):
            _check_size(frame.width, frame.height, self.name)
            count, last = count + 1, self.seconds(frame)
            if last >= self.end:
                return
            if last >= self.start:
                yield frame
        if not seek:
            self._check_complete(count, last)

    def seek(self) -> None:
        offset = round(self.start / self.stream.time_base) + (self.stream.start_time or 0)
        self.container.seek(offset, stream=self.stream)

    def can_seek(self) -> bool:
        """Whether `seek` leads to a frame that is not after the start; the video is of no use afterwards."""
        try:
            self.seek()
            first = next(self.container.decode(self.stream), None)
        except require("av.error", extra="video").FFmpegError:  # a format without an index
            return False
        return first is not None and self.seconds(first) <= self.start

    def _check_complete(self, count: int, last: float) -> None:
        """Both must fall short: a file may hide frames that it counts, and sound may go on without any."""
        promised = (self.container.duration or 0) / 1_000_000
        if count < _COMPLETE * self.stream.frames and last < _COMPLETE * promised:
            raise ImageError(
                f"{self.name}: only {count} of {self.stream.frames} frames are there", hint=_NOT_A_VIDEO
            )


@contextmanager
def _opened(clip: Clip) -> Iterator[_Video]:
    av, name = require("av", extra="video"), _name(clip)
    try:
        # An open file and no path: a path could be an address, which would be fetched.
        with (
            _file(clip.source) as file,
            av.open(file, options={"format_whitelist": _FORMATS}) as container,
        ):
            streams = [stream for stream in container.streams.video if not _is_cover(av, stream)]
            if not streams or streams[0].codec_context is None:
                raise ImageError(f"{name}: no pictures that can be decoded", hint=_NOT_A_VIDEO)
            stream = streams[0]
            stream.thread_type = "AUTO"
            _check_size(max(stream.width, 1), max(stream.height, 1), name)
            end = math.inf if clip.end is None else clip.end
            yield _Video(container, stream, name, clip.start, end)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = error.strerror if isinstance(error, av.error.FFmpegError | OSError) else error
        raise ImageError(f"{name}: not a readable video ({why})", hint=_NOT_A_VIDEO) from error


def _file(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    path = Path(source)
    try:
        if not path.exists():
            raise ImageError(f"{path}: no such file", hint="check the path")
        if not path.is_file():
            raise ImageError(f"{path}: not a file", hint="give the video itself")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(
            f"{path}: cannot be read ({error})", hint="check the path and its permissions"
        ) from error


def _is_cover(av: Any, stream: Any) -> bool:
    """Whether it is the picture on a piece of music."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise, to turn the frame upright; rounded to right angles."""
    return round(int(frame.rotation) / 90) % 4


def _upright(frame: Any) -> Image.Image:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
    return Image.fromarray(np.ascontiguousarray(pixels))


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: frames of {width} × {height} = {width * height} pixels, the limit is {MAX_PIXELS}",
            hint="make the video smaller; the model sees at most 896 × 896 pixels",
        )


def _no_frames(clip: Clip) -> ImageError:
    name = _name(clip)
    if clip.start == 0 and clip.end is None:
        return ImageError(f"{name}: no frame in it", hint=_NOT_A_VIDEO)
    end = "its end" if clip.end is None else f"{clip.end} s"
    return ImageError(f"{name}: no frame between {clip.start} s and {end}", hint="give other seconds")


def _name(clip: Clip) -> str:
    return f"video of {len(clip.source)} bytes" if isinstance(clip.source, bytes) else str(clip.source)
