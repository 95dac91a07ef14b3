"""What lies inside of zip and tar files, found without unpacking them."""

import io
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from paligemma2.errors import DataError, InputError
from paligemma2.processing.stored import read_part
from paligemma2.types import FilePart

COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""They can only be read from begin to end, so that pictures cannot be found in them."""
_AGAIN = "make or fetch it again"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE.TXT of PKWARE, section 4.3.7
_ENCRYPTED = 1
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL, _LARGEST = 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside of an archive.

    Attributes:
        archive: the zip or tar file.
        name: with its folders in the archive.
        offset: of its bytes in a tar file, of its header in a zip file.
        size: of its bytes as they are stored.
        method: how a zip file stores it (`zipfile.ZIP_STORED`); None in a tar file.
    """

    archive: Path
    name: str
    offset: int
    size: int
    method: int | None = None


def is_archive(path: Path) -> bool:
    """Whether `members` can list it, by its name."""
    return path.suffix.lower() in (".zip", ".tar")


def members(path: Path) -> list[Member]:
    """The plain files in a zip or tar file, in its order.

    Raises:
        DataError: it is damaged, or cut short.
    """
    try:
        return _of_zip(path) if path.suffix.lower() == ".zip" else _of_tar(path)
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ValueError) as error:
        kind = "zip" if path.suffix.lower() == ".zip" else "tar"
        raise DataError(f"{path} is damaged or not a {kind} file: {error}", hint=_AGAIN) from error


def place(member: Member) -> FilePart:
    """Where the bytes of a member stand.

    Raises:
        DataError: the archive is damaged, or holds the member in a way that cannot be read at random.
    """
    if member.method is None:
        return FilePart(member.archive, member.offset, member.size)
    if member.method not in _READABLE:
        raise DataError(
            f"{member.archive}: {member.name} is encrypted, or compressed in a rare way",
            hint="unpack the archive, and give the folder",
        )
    with member.archive.open("rb") as file:
        file.seek(member.offset)
        header = file.read(_LOCAL_HEADER.size)
        end = file.seek(0, io.SEEK_END)
    signature, *lengths = _LOCAL_HEADER.unpack(header) if len(header) == _LOCAL_HEADER.size else (b"",)
    offset = member.offset + _LOCAL_HEADER.size + sum(lengths)
    if signature != b"PK\3\4" or offset + member.size > end:
        raise DataError(f"{member.archive} is damaged: {member.name} is not where it should be", hint=_AGAIN)
    return FilePart(member.archive, offset, member.size, member.method == zipfile.ZIP_DEFLATED)


def open_member(member: Member) -> IO[bytes]:
    """The content of a member, to read from begin to end.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        if member.method in _READABLE and member.size < _SMALL:  # opening the archive anew takes longer
            return io.BytesIO(read_part(place(member), _LARGEST))
        if member.method is not None:
            return zipfile.ZipFile(member.archive).open(member.name)
        with member.archive.open("rb") as file:
            file.seek(member.offset)
            return io.BytesIO(file.read(member.size))
    except (zipfile.BadZipFile, OSError, RuntimeError, LookupError, InputError) as error:
        raise DataError(
            f"{member.archive}: {member.name} cannot be read: {error}", hint="unpack the archive"
        ) from error


def _of_zip(path: Path) -> list[Member]:
    with zipfile.ZipFile(path) as archive:
        return [
            Member(
                path,
                entry.filename,
                entry.header_offset,
                entry.compress_size,
                -1 if entry.flag_bits & _ENCRYPTED else entry.compress_type,
            )
            for entry in archive.infolist()
            if not entry.is_dir()
        ]


def _of_tar(path: Path) -> list[Member]:
    found, end = [], path.stat().st_size
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            if not entry.isreg() or entry.issparse():
                continue
            if entry.offset_data + entry.size > end:
                raise tarfile.ReadError(f"{entry.name} is cut short")
            found.append(Member(path, entry.name.removeprefix("./"), entry.offset_data, entry.size))
    return found
