"""The folder of a bulk job: a part for each finished unit, which is there as a whole or not at all.

job.json              what is asked of which files; another job may not go on in the folder
predictions/NAME      a row for each answer, in parquet; its being there says that the unit is finished
problems/NAME         a row for each row without an answer; only where a unit has any
_partial/             what is being written
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from typing import Any

from paligemma2.errors import DataError, InputError, WorkError
from paligemma2.jobs.bulk_sources import BulkProblem, SourceFile, file_system
from paligemma2.optional import require

JOB, PREDICTIONS, PROBLEMS, PARTIAL = "job.json", "predictions", "problems", "_partial"
MAX_DEATHS = 5
"""Of workers at one unit, before the job is stopped; Ray itself would try for ever."""
_SUFFIX = ".parquet"


@dataclass(frozen=True, kw_only=True)
class BulkPrediction:
    """A row of the results.

    Attributes:
        source: of the row, unique: the name of its file and its number in it.
        id: as the data has it.
        prompt: as it was asked.
        prediction: what the model wrote.
        answers: all right answers; none without a task.
        finish_reason: "stop", or "length" where the answer was cut.
        log_prob: natural logarithm of the probability of the answer, without the end token.
        seconds: that it took: of its batch, divided by the rows of the batch.
        unit: see `data.readers.records.Record`.
        meta: what the metric needs, as JSON.
        fields: of the row, as JSON, without pictures.
    """

    source: str
    id: str
    prompt: str
    prediction: str
    answers: tuple[str, ...]
    finish_reason: str
    log_prob: float
    seconds: float
    unit: str
    meta: str
    fields: str


class BulkOutput:
    """Reads and writes the folder; on any file system that fsspec knows, from any process.

    Args:
        uri: of the folder.

    Raises:
        DataError: there is no such protocol.
        MissingExtra: the protocol needs a library that is not installed.
    """

    def __init__(self, uri: str) -> None:
        self._files, root = file_system(uri)
        self._root = root.rstrip("/")
        self.uri = str(self._files.unstrip_protocol(self._root))

    def begin(self, job: Mapping[str, Any]) -> None:
        """Note what the job is, or check that the folder holds the same one.

        Raises:
            InputError: it holds another job, or other things.
        """
        path, text = self._path(JOB), json.dumps(job, indent=2, sort_keys=True)
        if not self._files.exists(path):
            if self._files.exists(self._path(PREDICTIONS)):
                raise InputError(f"{self.uri} holds predictions without {JOB}", hint="give another folder")
            self._write(JOB, text.encode())
            return
        before, now = json.loads(self._files.cat_file(path)), json.loads(text)
        if before != now:
            names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            raise InputError(
                f"{self.uri} holds another job: {', '.join(names)} differ",
                hint="give another folder for the results, or ask as before",
            )

    def job(self) -> dict[str, Any]:
        """What `begin` noted.

        Raises:
            DataError: the folder holds no job.
        """
        try:
            job: dict[str, Any] = json.loads(self._files.cat_file(self._path(JOB)))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.uri} holds no bulk job: {error}", hint="see `paligemma2 bulk`") from error
        return job

    def finished(self) -> frozenset[str]:
        """The names of the units that are finished."""
        return frozenset(self._names(PREDICTIONS))

    def has(self, name: str) -> bool:
        """Whether a unit is finished, as far as this machine can see right now."""
        self._files.invalidate_cache(self._path(PREDICTIONS))
        return bool(self._files.exists(self._path(f"{PREDICTIONS}/{name}{_SUFFIX}")))

    def write(
        self, name: str, predictions: Sequence[BulkPrediction], problems: Sequence[BulkProblem]
    ) -> None:
        """Write the part of a unit; of the same name again, it replaces an equal one.

        Raises:
            WorkError: the file system refuses.
        """
        try:
            if problems:  # first, as the predictions say that the unit is finished
                self._write(f"{PROBLEMS}/{name}{_SUFFIX}", _parquet(_problem_table(problems)))
            self._write(f"{PREDICTIONS}/{name}{_SUFFIX}", _parquet(_prediction_table(predictions)))
        except OSError as error:
            raise WorkError(
                f"{self.uri} cannot be written: {error}", hint="the same command goes on where it stopped"
            ) from error

    @contextmanager
    def trying(self, name: str, place: str) -> Iterator[None]:
        """Mark that a worker is at a unit until the block ends; the mark stays if the worker dies in it.

        Args:
            name: of the unit.
            place: which rows these are, for people.

        Raises:
            WorkError: so many died at this unit that it must be at fault.
        """
        path = self._path(PARTIAL)
        self._files.makedirs(path, exist_ok=True)
        self._files.invalidate_cache(path)
        marks = [str(found) for found in self._files.ls(path, detail=False) if f"/{name}.try-" in str(found)]
        if len(marks) >= MAX_DEATHS:
            raise WorkError(
                f"{len(marks)} workers died at the same rows, {place}",
                hint="is the memory too small? give a smaller batch size, or leave the rows out",
            )
        mark = f"{path}/{name}.try-{uuid.uuid4().hex}"
        self._files.pipe_file(mark, b"")
        try:
            yield
        finally:
            self._files.rm_file(mark)

    def counts(self, name: str) -> tuple[int, int]:
        """The numbers of predictions and of problems of a finished unit."""
        return self._num_rows(f"{PREDICTIONS}/{name}{_SUFFIX}"), self._num_rows(f"{PROBLEMS}/{name}{_SUFFIX}")

    def predictions(self) -> Iterator[BulkPrediction]:
        """All rows of the results, in the order of the names of parts.

        Raises:
            DataError: a part is damaged.
        """
        for row in self._rows(PREDICTIONS):
            yield BulkPrediction(**{**row, "answers": tuple(row["answers"])})

    def problems(self) -> Iterator[BulkProblem]:
        """All rows without an answer.

        Raises:
            DataError: a part is damaged.
        """
        for row in self._rows(PROBLEMS):
            yield BulkProblem(**row)

    def clean(self) -> None:
        """Remove what workers that were killed left half written; nobody may be writing."""
        partial = self._path(PARTIAL)
        if self._files.exists(partial):
            self._files.rm(partial, recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _names(self, folder: str) -> list[str]:
        path = self._path(folder)
        self._files.invalidate_cache(path)  # another machine may have written since
        if not self._files.exists(path):
            return []
        names = (str(found).rpartition("/")[2] for found in self._files.ls(path, detail=False))
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))

    def _num_rows(self, name: str) -> int:
        path = self._path(name)
        if not self._files.exists(path):
            return 0
        parquet = require("pyarrow.parquet", extra="ray")
        with self._files.open(path, "rb") as file:
            return int(parquet.read_metadata(file).num_rows)

    def _rows(self, folder: str) -> Iterator[dict[str, Any]]:
        arrow, parquet = require("pyarrow", extra="ray"), require("pyarrow.parquet", extra="ray")
        for name in self._names(folder):
            path = self._path(f"{folder}/{name}{_SUFFIX}")
            try:
                table = parquet.read_table(BytesIO(self._files.cat_file(path)))
            except (arrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{path} is damaged: {error}", hint="remove it and run the job again"
                ) from error
            yield from table.to_pylist()

    def _write(self, name: str, content: bytes) -> None:
        """Write under a name of its own and move it, so that no reader and no crash sees a half."""
        partial, path = self._path(f"{PARTIAL}/{uuid.uuid4().hex}"), self._path(name)
        for needed in (partial, path):
            self._files.makedirs(needed.rpartition("/")[0], exist_ok=True)
        with self._files.open(partial, "wb") as file:
            file.write(content)
            if "file" in _protocols(self._files):
                file.flush()
                os.fsync(file.fileno())
        self._files.mv(partial, path)


def finished_files(names: frozenset[str]) -> frozenset[str]:
    """The digests of the files all of whose units are finished."""
    numbers: dict[str, set[int]] = {}
    lasts: dict[str, int] = {}
    for name in names:
        digest, number, *last = name.split("-")
        numbers.setdefault(digest, set()).add(int(number))
        if last:
            lasts[digest] = int(number)
    return frozenset(digest for digest, last in lasts.items() if len(numbers[digest]) == last + 1)


def listing(sources: Sequence[SourceFile]) -> list[list[str | int]]:
    """What of the files decides whether a job is the same: names and sizes."""
    return [[source.name, source.size] for source in sources]


def only_this_process_sees(uri: str) -> bool:
    """Whether the file system lies in the memory of the process that asks."""
    return "memory" in _protocols(file_system(uri)[0])


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _prediction_table(predictions: Sequence[BulkPrediction]) -> Any:
    arrow = require("pyarrow", extra="ray")
    types: dict[Any, Any] = {
        str: arrow.string(),
        float: arrow.float64(),
        tuple[str, ...]: arrow.list_(arrow.string()),
    }
    schema = arrow.schema([(each.name, types[each.type]) for each in fields(BulkPrediction)])
    return arrow.Table.from_pylist(list(map(asdict, predictions)), schema=schema)


def _problem_table(problems: Sequence[BulkProblem]) -> Any:
    arrow = require("pyarrow", extra="ray")
    schema = arrow.schema([(name, arrow.string()) for name in ("source", "reason", "detail")])
    return arrow.Table.from_pylist(list(map(asdict, problems)), schema=schema)


def _parquet(table: Any) -> bytes:
    buffer = BytesIO()
    require("pyarrow.parquet", extra="ray").write_table(table, buffer)
    return buffer.getvalue()
