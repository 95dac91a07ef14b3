"""Tar shards in WebDataset's layout: files of a sample stand together and share the name up to the first dot.

A sample is `<key>.jpg` (or another kind of picture) and `<key>.json` with prefix and suffix, or `<key>.txt`
with a caption. Shards are read from begin to end, or by an index of where pictures stand, and never unpacked
to the disk.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import SEEK_END
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from paligemma2.data.formats.records import answers_of, row_of_record
from paligemma2.data.pictures import SUFFIXES, picture_bytes
from paligemma2.data.rows import DataRow, OnProblem, RowProblem, UnusableRow, split_of_file
from paligemma2.data.text_files import parse_json
from paligemma2.errors import DataError
from paligemma2.processing.image import MAX_FILE_BYTES
from paligemma2.types import FilePart

ENDINGS = (".tar", ".tar.gz", ".tgz")
_SHARD_BYTES = 500_000_000
_SHARD_ROWS = 10_000
_Mode: TypeAlias = Literal["r:", "r|*"]
_Parts: TypeAlias = dict[str, bytes | FilePart]


def is_here(source: Path) -> bool:
    """Whether the folder has shards, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    found = [source] if source.is_file() else sorted({*source.glob("*.t*"), *source.glob("*/*.t*")})
    return [path for path in found if path.name.endswith(ENDINGS)]


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every shard, one sample at a time; `line` is the number of the sample in its shard.

    Raises:
        DataError: a shard is damaged; the samples before that come first.
    """
    for path in _files(source):
        yield from _rows(path, source, on_problem, "r|*")


def index(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The same rows with `FilePart` instead of pictures, which are not read; compressed shards give bytes.

    Raises:
        DataError: a shard is damaged; the samples before that come first.
    """
    for path in _files(source):
        is_plain = _is_plain(path)
        yield from _rows(path, source, on_problem, "r:" if is_plain else "r|*")
        if is_plain and not _has_end(path):
            reason = "the shard has no end mark: it may have been cut short"
            on_problem(RowProblem(file=path, reason=reason, is_skipped=False))


def _is_plain(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except (tarfile.TarError, OSError, EOFError):
        return False
    return True


def _has_end(path: Path) -> bool:
    """Whether the file ends in an empty block, as every tar file should; `tarfile` does not mind."""
    with path.open("rb") as file:
        file.seek(-min(tarfile.BLOCKSIZE, path.stat().st_size), SEEK_END)
        return not any(file.read())


def _rows(path: Path, source: Path, on_problem: OnProblem, mode: _Mode) -> Iterator[DataRow]:
    split = split_of_file(path, source)
    for line, (key, parts) in enumerate(_samples(path, on_problem, mode), start=1):
        try:
            yield _row(key, parts, path, line, split, on_problem)
        except UnusableRow as problem:
            on_problem(problem.problem(path, line))


def _samples(path: Path, on_problem: OnProblem, mode: _Mode) -> Iterator[tuple[str, _Parts]]:
    def note(problem: UnusableRow) -> None:
        on_problem(problem.problem(path))

    try:
        with tarfile.open(path, mode) as shard:
            yield from samples(shard, note, partial(_place, path) if mode == "r:" else None)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is damaged or not a tar file: {error}", hint="make or fetch it again"
        ) from error


def samples(
    shard: tarfile.TarFile,
    on_unusable: Callable[[UnusableRow], None],
    place: Callable[[tarfile.TarInfo], FilePart] | None = None,
) -> Iterator[tuple[str, dict[str, bytes | FilePart]]]:
    """The samples of an open shard in order: the key, and what stands under it by ending, as ".0.jpg".

    Args:
        shard: read from begin to end.
        on_unusable: told of members that are no plain files or too large, which are left out.
        place: where a picture stands, instead of its bytes.

    Raises:
        tarfile.TarError, OSError, EOFError: the shard is damaged.
    """
    key, parts = "", _Parts()
    for member in shard:
        if member.isdir():
            continue
        name, ending = _split_name(member.name)
        if name != key and parts:
            yield key, parts
            parts = _Parts()
        key = name
        try:
            read = place if place and ending.endswith(SUFFIXES) else partial(_content, shard)
            parts[ending] = read(member)
        except UnusableRow as problem:
            on_unusable(problem)
    if parts:
        yield key, parts


def _split_name(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, (dot + ending).lower()


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    _check(member)
    file = shard.extractfile(member)
    assert file is not None, "a plain file has content"
    return file.read()


def _place(path: Path, member: tarfile.TarInfo) -> FilePart:
    _check(member)
    if member.offset_data + member.size > path.stat().st_size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    if member.issparse():  # its bytes do not stand together
        raise UnusableRow("a member is not a plain file", member.name)
    return FilePart(path, member.offset_data, member.size)


def _check(member: tarfile.TarInfo) -> None:
    if not member.isreg():
        raise UnusableRow("a member is not a plain file", member.name)
    if member.size > MAX_FILE_BYTES:
        raise UnusableRow("a member is too large", f"{member.name}: {member.size} bytes")


def _row(key: str, parts: _Parts, path: Path, line: int, split: str, on_problem: OnProblem) -> DataRow:
    images = pictures_of(key, parts)
    record = {"id": key, **record_of(parts)}
    return row_of_record(
        record, file=path, line=line, split=split, folder=path.parent, on_problem=on_problem, images=images
    )


def pictures_of(key: str, parts: Mapping[str, bytes | FilePart]) -> tuple[bytes | FilePart, ...]:
    """The pictures of a sample, in the order of their endings.

    Raises:
        UnusableRow: there is none.
    """
    images = tuple(parts[ending] for ending in sorted(parts) if ending.endswith(SUFFIXES))
    if not images:
        raise UnusableRow("the sample has no picture", f"{key} has {', '.join(sorted(parts))}")
    return images


def record_of(parts: Mapping[str, bytes | FilePart]) -> dict[str, Any]:
    """The fields in the `.json` of a sample, or its `.txt` as a caption.

    Raises:
        UnusableRow: there is neither, or it cannot be read.
    """
    text = parts.get(".json", parts.get(".txt"))
    if not isinstance(text, bytes):
        raise UnusableRow("the sample has no .json or .txt", f"it has {', '.join(sorted(parts))}")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableRow("the text of a sample is not UTF-8") from None
    record = parse_json(decoded) if ".json" in parts else {"caption": decoded.strip()}
    if not isinstance(record, dict):
        raise UnusableRow("not a JSON object", f"it is a {type(record).__name__}")
    return record


class Writer:
    """Writes `<split>-000000.tar` and so on: a new shard after 10 000 rows or 500 MB."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder = folder
        self._shards: dict[str, ShardWriter] = {}

    def write(self, row: DataRow) -> None:
        """Add a sample; several pictures are `<key>.0.jpg`, `<key>.1.jpg` and so on."""
        pictures = [picture_bytes(image) for image in row.images]
        record = {"id": row.id, "prefix": row.prefix, "suffix": answers_of(row)}
        if row.split not in self._shards:
            self._shards[row.split] = ShardWriter(self._folder, row.split)
        is_one = len(pictures) == 1
        members = {
            (ending if is_one else f".{number:03d}{ending}"): data
            for number, (data, ending) in enumerate(pictures)
        }
        text = json.dumps(record, ensure_ascii=False).encode()
        self._shards[row.split].add({**members, ".json": text})

    def close(self) -> None:
        """End the shards."""
        for shard in self._shards.values():
            shard.close()


class ShardWriter:
    """The shards of one split, `<split>-000000.tar` and so on, of which the last is open.

    Args:
        folder: which is there.
        split: begins the names.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._rows = self._bytes = 0
        self._file: tarfile.TarFile | None = None

    def add(self, members: dict[str, bytes]) -> None:
        """Add a sample: what stands in its files, by ending."""
        is_full = self._bytes >= _SHARD_BYTES or (self._rows > 0 and self._rows % _SHARD_ROWS == 0)
        if self._file is None or is_full:
            self.close()
            self._file = self._next()
        for ending, data in members.items():
            entry = tarfile.TarInfo(f"{self._rows:09d}{ending}")
            entry.size = len(data)
            self._file.addfile(entry, io.BytesIO(data))
            self._bytes += len(data)
        self._rows += 1

    def _next(self) -> tarfile.TarFile:
        number, self._bytes = len(list(self._folder.glob(f"{self._split}-*.tar"))), 0
        return tarfile.open(self._folder / f"{self._split}-{number:06d}.tar", "w")

    def close(self) -> None:
        """End the last shard."""
        if self._file is not None:
            self._file.close()
