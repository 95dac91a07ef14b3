"""Picture files of data sets: their sizes, and copies of them under names that do not collide."""

import hashlib
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

from paligemma2.data.rows import DataRow, UnusableRow
from paligemma2.types import EditedPicture, FilePart, ImageSource, TableCell

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "TIFF": ".tif"}
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def picture_size(source: ImageSource) -> tuple[int, int]:
    """(height, width) in pixels of a file or of encoded bytes, upright by its EXIF; only the header is read.

    Raises:
        UnusableRow: the picture is missing or damaged.
    """
    try:
        with Image.open(_readable(source)) as image:
            width, height = image.size
            is_sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except FileNotFoundError:
        raise UnusableRow("the picture is missing", str(source)) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnusableRow("the picture cannot be read", f"{_name(source)}: {error}") from None
    return (width, height) if is_sideways else (height, width)


def row_size(row: DataRow) -> tuple[int, int]:
    """(height, width) of the row's picture: what its format states, else read from the picture.

    Raises:
        UnusableRow: there is no size to be had.
    """
    if row.height and row.width:
        return row.height, row.width
    return picture_size(row.images[0])


def picture_bytes(source: ImageSource) -> tuple[bytes, str]:
    """The encoded picture and the suffix of its file, as ".jpg".

    Raises:
        UnusableRow: the picture is missing or cannot be read.
    """
    if isinstance(source, bytes):
        return source, _suffix_of_bytes(source)
    path = _path(source)
    with _opened(path) as file:
        return file.read(), path.suffix.lower()


def picture_num_bytes(source: ImageSource) -> int | None:
    """The encoded size, of a cell of a table that of the table; None if the picture is missing."""
    if isinstance(source, EditedPicture):
        return picture_num_bytes(source.source)
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, FilePart):
        return source.size
    path = source.path if isinstance(source, TableCell) else _path(source)
    return path.stat().st_size if path.is_file() else None


def picture_identity(source: ImageSource) -> str:
    """What tells a picture from others of its data set, on any machine."""
    if isinstance(source, EditedPicture):
        return f"{picture_identity(source.source)} {replace(source, source='')}"
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, FilePart):
        return f"{source.path.name}:{source.offset}"
    if isinstance(source, TableCell):
        return f"{source.path.name}:{source.row}:{source.column}"
    return _path(source).name


class PictureFolder:
    """Copies pictures into folders of a new data set, each of them once.

    A picture keeps its file name; where another has its stem already, it gets a number, because annotations
    are often named by the stem alone. Pictures are copied and not
    linked, so that the new data set stays whole when the old one is changed or moved.
    """

    def __init__(self) -> None:
        self._copies: dict[tuple[Path, str | bytes], str] = {}
        self._used: set[tuple[Path, str]] = set()

    def add(self, folder: Path, row: DataRow, number: int = 0) -> str:
        """Copy the row's picture `number` into `folder`, unless it is there; returns the name of its file.

        Raises:
            UnusableRow: the picture is missing or cannot be read.
        """
        source = row.images[number]
        key = (folder, hashlib.blake2b(source).digest() if isinstance(source, bytes) else str(source))
        if key not in self._copies:
            self._copies[key] = self._copy(folder, source, row)
        return self._copies[key]

    def _copy(self, folder: Path, source: ImageSource, row: DataRow) -> str:
        if isinstance(source, bytes):
            name = self._free(folder, f"{_safe(row.id) or 'picture'}{_suffix_of_bytes(source)}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source)
            return name
        path = _path(source)
        with _opened(path) as original:
            name = self._free(folder, path.name)
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as copy:
                shutil.copyfileobj(original, copy)
        return name

    def _free(self, folder: Path, name: str) -> str:
        stem, suffix = Path(name).stem, Path(name).suffix
        free, count = stem, 1
        while (folder, free.lower()) in self._used:  # some file systems do not tell A.png from a.png
            count += 1
            free = f"{stem}-{count}"
        self._used.add((folder, free.lower()))
        return free + suffix


def only_picture(row: DataRow) -> ImageSource:
    """The picture of a row that must have one.

    Raises:
        UnusableRow: it has none or several.
    """
    if len(row.images) != 1:
        raise UnusableRow("the format holds one picture per row", f"this row has {len(row.images)}")
    return row.images[0]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UnusableRow("the picture is missing", str(path)) from None
    except OSError as error:
        raise UnusableRow("the picture cannot be read", f"{path}: {error.strerror}") from None


def _readable(source: ImageSource) -> Path | BytesIO:
    return BytesIO(source) if isinstance(source, bytes) else _path(source)


def _path(source: ImageSource) -> Path:
    assert isinstance(source, str | Path), "readers give paths and bytes"
    return Path(source)


def _name(source: ImageSource) -> str:
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _suffix_of_bytes(data: bytes) -> str:
    try:
        with Image.open(BytesIO(data)) as image:
            kind = image.format or ""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnusableRow("the picture cannot be read", f"{len(data)} bytes: {error}") from None
    return _SUFFIX_OF_FORMAT.get(kind, f".{kind.lower()}")


def _safe(name: str) -> str:
    """A row's id as the stem of a file name."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in name)[:100]
