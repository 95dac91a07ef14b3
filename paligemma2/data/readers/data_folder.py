"""The folder where the user put a data set, read as it lies."""

import bz2
import gzip
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias, cast

from paligemma2.data.pictures import SUFFIXES
from paligemma2.data.readers.archives import (
    COMPRESSED_TARS,
    Member,
    is_archive,
    members,
    open_member,
    place,
)
from paligemma2.data.readers.tables import picture_names
from paligemma2.errors import DataError
from paligemma2.types import StoredPicture, TableCell

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_PACKED = (".gz", ".bz2")
_Place: TypeAlias = Path | Member | TableCell
_ByStem: TypeAlias = dict[str, list[tuple[str, _Place]]]


class DataFolder:
    """Finds the files and the pictures of a data set, in folders, zip archives, tar shards and parquet files.

    Nothing is unpacked or copied. The names of what is there are read when something is first looked for,
    those in parquet files only if pictures are nowhere else.

    Args:
        root: the folder.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", hint="give the folder of the data set")
        self.root = root

    def file(self, name: str) -> Path:
        """The file with this name, wherever it lies below the folder, outside of archives.

        Args:
            name: with the last folders of its path, if these are needed to tell it from others.

        Raises:
            DataError: there is none, or there are several.
        """
        exact = self.root / name
        if exact.is_file():
            return exact
        found = [path for path in self._files if path.as_posix().endswith(f"/{name}")]
        if len(found) == 1:
            return found[0]
        problem = "is not there" if not found else f"is there {len(found)} times"
        raise DataError(
            f"{name} {problem} in {self.root}", hint="give the folder of the data set's own files"
        )

    def open(self, name: str) -> IO[bytes]:
        """The content of a file, also of one in an archive, or of one with .gz or .bz2 behind its name.

        Args:
            name: as for `file`.

        Raises:
            DataError: there is none, or there are several; or an archive is damaged.
        """
        for ending in ("", *_PACKED):
            if (self.root / f"{name}{ending}").is_file():
                return _opened(self.root / f"{name}{ending}")
        if name in self._members_by_name:
            return open_member(self._members_by_name[name])
        for ending in ("", *_PACKED):
            if any(path.as_posix().endswith(f"/{name}{ending}") for path in self._files):
                return _opened(self.file(name + ending))
        found = [member for member in self._members if f"/{member.name}".endswith(f"/{name}")]
        if len(found) > 1:
            places = ", ".join(str(member.archive) for member in found[:2])
            raise DataError(f"{name} is there {len(found)} times: {places}", hint="take one of them away")
        return open_member(found[0]) if found else self.file(name).open("rb")

    def names(self, pattern: str) -> list[str]:
        """Names of all files, inside of archives too, whose last parts match a pattern as "questions/*.json".

        Each can be given to `open`; in the order of the alphabet.
        """
        every = [path.relative_to(self.root).as_posix() for path in self._files]
        every += [member.name for member in self._members]
        return sorted({name for name in every if PurePosixPath(name).match(pattern)})

    def files(self, pattern: str) -> list[Path]:
        """All files outside of archives whose last parts match a pattern, in the order of the alphabet.

        Raises:
            DataError: there is none.
        """
        found = [path for path in self._files if path.relative_to(self.root).match(pattern)]
        if not found:
            raise DataError(
                f"{pattern} is not there in {self.root}", hint="give the folder of the data set's own files"
            )
        return found

    def image(self, name: str) -> StoredPicture | None:
        """The picture of this name, or None.

        Args:
            name: of the file, with or without the last folders of its path; without suffix if the data set
                names none. Where no picture lies in the folders that are named, the only one with this file
                name is taken, unless "/" stands before them, as it should before "12/image.png".

        Raises:
            DataError: an archive is damaged.
            MissingExtra: the only place left to look is a parquet file, and pyarrow is not installed.
        """
        found = _pick(self._images, name) or _pick(self._table_images, name)
        return place(found) if isinstance(found, Member) else found

    def video(self, name: str) -> Path | None:
        """The video of this name, or None."""
        return self._videos.get(name)

    @cached_property
    def notice(self) -> str:
        """What may be the reason that pictures are not found, and what to do; "" if nothing is known."""
        packed = [path for path in self._files if path.name.lower().endswith(COMPRESSED_TARS)]
        if not packed:
            return ""
        return (
            f"pictures cannot be found in the compressed {packed[0].name}: "
            f"decompress it (gunzip {packed[0].name}); the tar file need not be unpacked"
        )

    @cached_property
    def _files(self) -> list[Path]:
        found, seen = list[Path](), set[str]()
        for folder, folders, files in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            found += [path for path in (Path(folder, name) for name in files) if path.is_file()]
        return sorted(found)

    @cached_property
    def _members(self) -> list[Member]:
        return [member for path in self._files if is_archive(path) for member in members(path)]

    @cached_property
    def _members_by_name(self) -> dict[str, Member]:
        names = Counter(member.name for member in self._members)
        return {member.name: member for member in self._members if names[member.name] == 1}

    @cached_property
    def _images(self) -> _ByStem:
        outside = ((path.relative_to(self.root).as_posix(), path) for path in self._files)
        inside = ((member.name, member) for member in self._members)
        return _by_stem((*outside, *inside))

    @cached_property
    def _table_images(self) -> _ByStem:
        tables = [path for path in self._files if path.suffix == ".parquet"]
        return _by_stem(pair for path in tables for pair in picture_names(path))

    @cached_property
    def _videos(self) -> dict[str, Path]:
        return {path.stem: path for path in self._files if path.suffix.lower() in VIDEO_SUFFIXES}


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".bz2":
        return bz2.open(path)
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _by_stem(places: Iterable[tuple[str, _Place]]) -> _ByStem:
    found: _ByStem = {}
    for name, where in places:
        name = unicodedata.normalize("NFC", name)  # macOS takes letters and their accents apart
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, []).append((name, where))
    return found


def _pick(images: _ByStem, name: str) -> _Place | None:
    """The first picture in the folders of the name, or else the only one with the same file name."""
    name = unicodedata.normalize("NFC", name)
    path = PurePosixPath(name)
    has_suffix = path.suffix.lower() in SUFFIXES
    same = [
        (found, where)
        for found, where in images.get(path.stem if has_suffix else path.name, ())
        if not has_suffix or found.endswith(path.suffix)
    ]
    wanted = "/" + name.removeprefix("/").removeprefix("./")
    for found, where in same:
        if ("/" + (found if has_suffix else found[: -len(PurePosixPath(found).suffix)])).endswith(wanted):
            return where
    is_strict = name.startswith("/")
    return same[0][1] if len(same) == 1 and not is_strict else None
