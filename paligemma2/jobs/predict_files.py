"""The pictures or videos among files and in folders."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from paligemma2.errors import InputError
from paligemma2.processing import video

# Formats that Pillow knows by name, but that are no pictures or need a program of their own to be read.
_NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}


def find_files(paths: Sequence[Path], *, videos: bool = False) -> tuple[Path, ...]:
    """The files among `paths` as they are, and for each folder the pictures in it and below, sorted.

    In a folder the names decide: endings that Pillow reads, no hidden files.

    Args:
        paths: files and folders.
        videos: look into folders for videos, by their endings, instead of pictures.

    Raises:
        InputError: a folder has nothing of the kind in it.
    """
    endings = set(video.SUFFIXES) if videos else _picture_endings()
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if _is_wanted(file, path, endings))
        if not inside:
            kind = "video" if videos else "picture"
            hint = f"give {kind}s, or another folder"
            if not videos and any(is_video(file) for file in path.rglob("*")):
                hint = "add --frames 16 to ask about the videos in it"
            raise InputError(f"{path}: no {kind} in this folder", hint=hint)
        found += inside
    return tuple(found)


def is_video(file: Path) -> bool:
    """Whether the name is that of a video."""
    return file.suffix.lower() in video.SUFFIXES


def _is_wanted(file: Path, folder: Path, endings: set[str]) -> bool:
    is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not is_hidden and file.suffix.lower() in endings and file.is_file()


def _picture_endings() -> set[str]:
    known = Image.registered_extensions().items()  # also registers the formats in Image.OPEN
    return {ending for ending, name in known if name in Image.OPEN and name not in _NOT_PICTURES}
