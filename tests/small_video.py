"""Small videos whose frames say which they are: each is one grey, lighter by `STEP` than that before."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEP = 8


def save_clip(
    path: Path,
    num_frames: int = 20,
    *,
    codec: str = "mpeg4",
    times: Sequence[int] | None = None,
    rotation: int = 0,
    mark: bool = False,
    size: tuple[int, int] = (64, 48),
    first: int = 0,
    options: Mapping[str, str] | None = None,
) -> Path:
    """A video of (width, height) pixels.

    Args:
        path: its ending gives the format.
        num_frames: at most 31, or they are too light to tell.
        codec: a lossy one; frames of one grey come out nearly as they were.
        times: of each frame, in tenths of a second; by default ten frames a second.
        rotation: degrees counter-clockwise by which a player turns it.
        mark: whether the top left quarter, as stored, is white.
        size: before the rotation.
        first: number of the first frame, so that two videos differ.
        options: of the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w", options=dict(options or {})) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.time_base = Fraction(1, 10)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(num_frames):
            pixels = np.full((height, width, 3), (first + number) * STEP, dtype=np.uint8)
            if mark:
                pixels[: height // 2, : width // 2] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else number), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frame_numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """Which frames of such a video these are, from pixels in [-1, 1]."""
    return [round((float(frame.mean()) + 1) * 127.5 / STEP) for frame in frames]
