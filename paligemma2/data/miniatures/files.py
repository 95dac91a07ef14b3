"""The files of a miniature while they are made: several splits may add to one file."""

import bz2
import csv
import gzip
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from paligemma2.data.synthetic.samples import Pixels
from paligemma2.errors import ConfigError
from paligemma2.optional import require

Rows: TypeAlias = list[Any]
Encoder: TypeAlias = Callable[[Any], bytes]
FRAMES_PER_SECOND = 10


class Files:
    """Collects the content of files by name, and writes pictures and videos at once.

    Args:
        folder: that exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[str, tuple[Any, Encoder]] = {}

    def rows(self, name: str, encode: Encoder | None = None) -> Rows:
        """The rows of a file, to be added to.

        Args:
            name: with its folders.
            encode: how the rows become a file; None takes what the ending of the name says: JSON for `.json`,
                lines of JSON for `.jsonl`, a table with the keys of the first row as header for `.csv`, a
                pickle for `.p` and `.pickle`; with `.gz` or `.bz2` behind it, compressed.

        Raises:
            ConfigError: the ending says nothing.
        """
        rows: Rows = self._content(name, [], encode)
        return rows

    def table(self, name: str, **start: Any) -> dict[str, Any]:
        """The object of a JSON file or of a pickle, to be added to; `start` is its content when it is new."""
        table: dict[str, Any] = self._content(name, start, None)
        return table

    def picture(self, name: str, pixels: Pixels) -> None:
        """Write a picture, as JPEG, PNG or GIF by the ending of its name; once for each name."""
        path = self._path(name)
        if not path.exists():
            if path.suffix in (".jpg", ".jpeg"):
                Image.fromarray(pixels).save(path, quality=95, subsampling=0)
            else:
                Image.fromarray(pixels).save(path)

    def video(self, name: str, frames: Sequence[Pixels]) -> None:
        """Write a video of `FRAMES_PER_SECOND`; once for each name.

        Raises:
            MissingExtra: PyAV is not installed.
        """
        path = self._path(name)
        if not path.exists():
            _save_video(path, frames)

    def save(self) -> None:
        """Write the files whose content was collected."""
        for name, (content, encode) in self._contents.items():
            self._path(name).write_bytes(encode(content))

    def _content(self, name: str, start: Any, encode: Encoder | None) -> Any:
        if name not in self._contents:
            self._contents[name] = (start, encode or _encoder(name))
        return self._contents[name][0]

    def _path(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def json_lines(rows: Sequence[Any]) -> bytes:
    """Each row as JSON in a line of its own."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table with a header, as the `csv` module writes it."""
    lines = _Lines()
    if rows:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return lines.text.encode()


def text_lines(rows: Sequence[Any]) -> bytes:
    """Each row as text in a line of its own."""
    return "".join(f"{row}\n" for row in rows).encode()


class _Lines:
    text = ""

    def write(self, text: str) -> None:
        self.text += text


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _pickle(content: Any) -> bytes:
    return pickle.dumps(content, protocol=2)  # as Python 2 wrote those of RefCOCO


_ENCODERS: Mapping[str, Encoder] = {
    ".json": _json,
    ".jsonl": json_lines,
    ".csv": csv_table,
    ".txt": text_lines,
    ".p": _pickle,
    ".pickle": _pickle,
}
_COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
}


def _encoder(name: str) -> Encoder:
    path = Path(name)
    compress = _COMPRESSIONS.get(path.suffix)
    ending = path.with_suffix("").suffix if compress else path.suffix
    if ending not in _ENCODERS:
        raise ConfigError(f"nothing is known of files such as {name}", hint="give `encode`")
    encode = _ENCODERS[ending]
    return encode if compress is None else lambda content: compress(encode(content))


def _save_video(path: Path, frames: Sequence[Pixels]) -> None:
    av = require("av", extra="video")
    height, width, _ = frames[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
