"""Rows of parquet files and tar shards on any file system that fsspec knows, in units of work.

A file is always cut into the same units, whoever reads it, so that the name of a unit says what is in it.
"""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias

import fsspec

from paligemma2.data.formats import parquet, tar_shards
from paligemma2.data.rows import UnusableRow
from paligemma2.errors import DataError, MissingExtra
from paligemma2.optional import require

ENDINGS = (".parquet", *tar_shards.ENDINGS)
ID, UNIT = "_id", "_unit"
"""Fields for `Record.id` and `Record.unit`, by names that data sets do not have themselves."""
_NOT_FIELDS = ("image", "images", ID, UNIT)
MAX_UNIT_BYTES = 64 * 1024 * 1024
_NO_DATA = "give a folder of .parquet or .tar files"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of the data.

    Attributes:
        uri: where it is, with the protocol: "s3://bucket/data/train-000000.tar".
        name: its path below the folder of the data; names its units and rows.
        size: in bytes.
    """

    uri: str
    name: str
    size: int

    @property
    def digest(self) -> str:
        """Of the name; begins the names of the parts of results."""
        return hashlib.blake2b(self.name.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True, kw_only=True)
class BulkRow:
    """A row to ask about.

    Attributes:
        source: the name of its file and its number in it, from 0: "train-000000.tar#17"; unique.
        id: its field `_id` or `id`, else the key of the sample in a shard, else `source`.
        images: encoded pictures, in the order in which the model sees them.
        fields: what prompts and answers are made of, as JSON.
        unit: its field `_unit`: see `data.readers.records.Record`.
    """

    source: str
    id: str
    images: tuple[bytes, ...]
    fields: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class BulkProblem:
    """A row that cannot be asked about, or a file that cannot be read on.

    Attributes:
        source: as of a row; or the name of the file.
        reason: what is wrong, the same words each time.
        detail: with which value; may be empty.
    """

    source: str
    reason: str
    detail: str = ""


@dataclass(kw_only=True)
class Unit:
    """What is done or not done as a whole: some rows of a file that stand together.

    Attributes:
        file: digest of the file's name.
        number: in the file, from 0.
        is_last: whether no unit of the file comes behind it; a file without rows has one empty unit.
        rows: to ask about.
        problems: of rows that cannot be asked about.
    """

    file: str
    number: int
    is_last: bool = False
    rows: list[BulkRow] = field(default_factory=list)
    problems: list[BulkProblem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its part of the results: unique in the job, and the same whenever it is made again."""
        return f"{self.file}-{self.number:06d}{'-last' if self.is_last else ''}"

    @property
    def place(self) -> str:
        """Which rows it has, for people."""
        return f"{self.rows[0].source} to {self.rows[-1].source}" if self.rows else "none"


def to_table(unit: Unit) -> Any:
    """A unit as an Arrow table of one row, in which it travels between machines."""
    arrow = require("pyarrow", extra="ray")
    text = arrow.string()
    images = arrow.list_(arrow.binary())
    row = arrow.struct([("source", text), ("id", text), ("images", images), ("fields", text), ("unit", text)])
    problem = arrow.struct([("source", text), ("reason", text), ("detail", text)])
    columns = [("file", text), ("number", arrow.int64()), ("is_last", arrow.bool_())]
    schema = arrow.schema([*columns, ("rows", arrow.list_(row)), ("problems", arrow.list_(problem))])
    return arrow.Table.from_pylist([asdict(unit)], schema=schema)


def from_table(table: Any) -> list[Unit]:
    """The units in a table of several such rows."""
    return [
        Unit(
            file=found["file"],
            number=found["number"],
            is_last=found["is_last"],
            rows=[BulkRow(**{**row, "images": tuple(row["images"])}) for row in found["rows"]],
            problems=[BulkProblem(**problem) for problem in found["problems"]],
        )
        for found in table.to_pylist()
    ]


_Entry: TypeAlias = BulkRow | BulkProblem


def file_system(uri: str) -> tuple[Any, str]:
    """The file system of a path, and the path on it.

    Raises:
        DataError: there is no such protocol.
        MissingExtra: the protocol needs a library that is not installed.
    """
    try:
        files, path = fsspec.url_to_fs(uri)
    except ImportError as error:
        raise MissingExtra(
            f"{uri} needs a library that is not installed", hint=f"on every machine: {error}"
        ) from error
    except ValueError as error:
        raise DataError(f"{uri} cannot be opened: {error}", hint="as s3://bucket/folder") from error
    return files, str(path)


def is_folder(uri: str) -> bool:
    """Whether there is such a folder.

    Raises:
        DataError, MissingExtra: see `file_system`.
    """
    files, path = file_system(uri)
    return bool(files.isdir(path))


def find_sources(uri: str) -> tuple[SourceFile, ...]:
    """All parquet files and tar shards in a folder and below, or the one file, in the order of their names.

    Names that begin with "." or "_" are left out, as Spark and Arrow do.

    Raises:
        DataError: there are none.
        MissingExtra: see `file_system`.
    """
    files, root = file_system(uri)
    is_file = files.isfile(root)
    found = {root: files.info(root)} if is_file else files.find(root, detail=True)
    parent = str(PurePosixPath(root).parent) if is_file else root.rstrip("/")
    sources = (
        SourceFile(
            uri=files.unstrip_protocol(path),
            name=path.removeprefix(parent).lstrip("/"),
            size=int(info.get("size") or 0),
        )
        for path, info in found.items()
    )
    kept = [source for source in sources if source.name.endswith(ENDINGS) and not _is_hidden(source.name)]
    if not kept:
        raise DataError(f"{uri} holds no {' or '.join(ENDINGS[:2])} file", hint=_NO_DATA)
    return tuple(sorted(kept, key=lambda source: source.name))


def read_units(source: SourceFile, rows_per_unit: int) -> Iterator[Unit]:
    """The units of a file, in order, the last of them marked.

    A file that is damaged ends with a problem. What fails for another reason, as a network that is down, is
    raised.

    Args:
        source: the file.
        rows_per_unit: the most rows of a unit; one with `MAX_UNIT_BYTES` of pictures has fewer.

    Raises:
        OSError: the file cannot be reached.
        MissingExtra: see `file_system`; or pyarrow is not installed.
    """
    unit, size = Unit(file=source.digest, number=0), 0
    for entry in _entries(source):
        if len(unit.rows) + len(unit.problems) >= rows_per_unit or size >= MAX_UNIT_BYTES:
            yield unit
            unit, size = Unit(file=source.digest, number=unit.number + 1), 0
        if isinstance(entry, BulkProblem):
            unit.problems.append(entry)
        else:
            unit.rows.append(entry)
            size += sum(map(len, entry.images))
    unit.is_last = True
    yield unit


def _entries(source: SourceFile) -> Iterator[_Entry]:
    files, path = file_system(source.uri)
    read = _parquet_entries if source.name.endswith(".parquet") else _tar_entries
    try:
        with files.open(path, "rb") as file:
            yield from read(source, file)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        yield _damaged(source, error)
    except OSError as error:
        if error.errno is not None:  # of the system: the content is not at fault
            raise
        yield _damaged(source, error)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def _damaged(source: SourceFile, error: Exception) -> BulkProblem:
    return BulkProblem(source=source.name, reason="the file is damaged", detail=str(error))


def _tar_entries(source: SourceFile, file: IO[bytes]) -> Iterator[_Entry]:
    unusable: list[UnusableRow] = []
    with tarfile.open(fileobj=file, mode="r|*") as shard:
        for number, (key, parts) in enumerate(tar_shards.samples(shard, unusable.append)):
            place = f"{source.name}#{number}"
            try:
                images = tuple(part for part in tar_shards.pictures_of(key, parts) if isinstance(part, bytes))
                has_text = ".json" in parts or ".txt" in parts
                fields = tar_shards.record_of(parts) if has_text else {}
                yield _row(place, fields, images, key)
            except UnusableRow as problem:
                yield BulkProblem(source=place, reason=problem.reason, detail=problem.detail)
    for member in unusable:
        yield BulkProblem(source=source.name, reason=member.reason, detail=member.detail)


def _parquet_entries(source: SourceFile, file: IO[bytes]) -> Iterator[_Entry]:
    arrow = require("pyarrow", extra="ray")
    number = 0
    try:
        with require("pyarrow.parquet", extra="ray").ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=32):
                for record in batch.to_pylist():
                    yield _parquet_entry(source, number, record)
                    number += 1
    except arrow.ArrowException as error:
        yield _damaged(source, error)


def _parquet_entry(source: SourceFile, number: int, record: dict[str, Any]) -> _Entry:
    place = f"{source.name}#{number}"
    files, path = file_system(source.uri)
    try:
        stated = parquet.pictures_of(record, Path(path).parent)
        images = tuple(one if isinstance(one, bytes) else files.cat_file(one.as_posix()) for one in stated)
    except UnusableRow as problem:
        return BulkProblem(source=place, reason=problem.reason, detail=problem.detail)
    except FileNotFoundError as error:
        return BulkProblem(source=place, reason="the picture is missing", detail=str(error))
    return _row(place, record, images, place)


def _row(place: str, record: Mapping[str, Any], images: tuple[bytes, ...], name: str) -> BulkRow:
    fields = {key: value for key, value in record.items() if key not in _NOT_FIELDS}
    stated = record.get(ID, record.get("id"))
    return BulkRow(
        source=place,
        id=name if stated is None else str(stated),
        images=images,
        fields=json.dumps(fields, ensure_ascii=False, default=_as_json),
        unit=str(record.get(UNIT) or ""),
    )


def _as_json(value: object) -> str | None:
    """Dates and the like as text; other pictures that a row carries are not kept."""
    return None if isinstance(value, bytes) else str(value)
