"""Answers about very many pictures, by workers on the machines of a Ray cluster.

Each file is cut into units of rows. A unit is read on one machine, answered by a worker on this or another,
and written as one part whose name follows from the unit alone. A worker that dies loses its unit, which Ray
gives to another; a job that dies goes on with the units that have no part yet. So each row is answered once.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from paligemma2.errors import InputError, WorkError
from paligemma2.jobs.bulk_asking import Asker
from paligemma2.jobs.bulk_output import BulkOutput, finished_files, listing, only_this_process_sees
from paligemma2.jobs.bulk_sources import SourceFile, find_sources, read_units, to_table
from paligemma2.jobs.bulk_worker import BulkWorker, Done, told
from paligemma2.optional import require

_EXTRA = "ray"
_HOST_AND_PORT = re.compile(r"(?P<host>[^/]+):(?P<port>\d+)")


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """How the work is shared out.

    Attributes:
        workers: how many load the model.
        rows_per_unit: what is lost when a worker dies; also the most rows of a file of results.
        address: of a running cluster, "auto" for that of this machine; "" starts one here for the job.
        gpus_per_worker: None gives each worker a GPU where the cluster has any.
        object_store_bytes: memory of the cluster that is started here for rows on their way; None leaves it
            to Ray, which takes 30 % of the machine's.

    Raises:
        InputError: a number is out of range.
    """

    workers: int = 1
    rows_per_unit: int = 256
    address: str = ""
    gpus_per_worker: float | None = None
    object_store_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "rows_per_unit"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", hint="give at least 1")


@dataclass(frozen=True, kw_only=True)
class BulkConfig:
    """What `run` needs.

    Attributes:
        asker: who is asked what, and how.
        data: a folder of parquet files or tar shards, or one of them, on any file system that fsspec knows
            and that all machines see: "s3://bucket/folder", "/mnt/shared/folder".
        output: a folder for the results, likewise.
        settings: how the work is shared out.

    Raises:
        InputError: the folders lie in the memory of this process.
    """

    asker: Asker
    data: str
    output: str
    settings: BulkSettings = field(default_factory=BulkSettings)

    def __post_init__(self) -> None:
        for uri in (self.data, self.output):
            if only_this_process_sees(uri):
                raise InputError(
                    f"{uri} is in the memory of this process", hint="give a place all machines see"
                )


@dataclass(frozen=True, kw_only=True)
class BulkReport:
    """What is in the folder of results at the end.

    Attributes:
        output: the folder, with its protocol.
        num_predictions: rows with an answer, those of earlier starts too.
        num_problems: rows without, and files that could not be read on.
        num_units: parts of the results.
        num_found: of these, how many an earlier start had finished.
    """

    output: str
    num_predictions: int
    num_problems: int
    num_units: int
    num_found: int


def run(config: BulkConfig, on_done: Callable[[Done], None] | None = None) -> BulkReport:
    """Answer all rows; the same call goes on with a job that was stopped.

    Args:
        config: what to ask about what.
        on_done: called with each unit when it is finished.

    Raises:
        InputError: the folder of results holds another job, the cluster is too small, or no such model.
        DataError: there is no data.
        CheckpointError: the files of the model are damaged.
        WorkError: workers died again and again, or results cannot be written.
        MissingExtra: Ray, or a library for a file system, is not installed.
    """
    require("ray.data", extra=_EXTRA)
    sources = find_sources(config.data)
    output = BulkOutput(config.output)
    output.begin(job_of(config, sources))
    output.clean()
    found = output.finished()
    done = finished_files(found)
    left = [source for source in sources if source.digest not in done]
    if left:
        with _cluster(config.settings) as gpus, _explained():
            for each in _answer(config, output, left, found, gpus):
                if on_done is not None:
                    on_done(each)
        output.clean()
    return _report(output, num_found=len(found))


def job_of(config: BulkConfig, sources: tuple[SourceFile, ...]) -> dict[str, Any]:
    """All that decides the rows of results and their parts."""
    return {
        "version": 1,
        **config.asker.identity(),
        "rows_per_unit": config.settings.rows_per_unit,
        "files": listing(sources),
    }


def _answer(
    config: BulkConfig, output: BulkOutput, left: list[SourceFile], found: frozenset[str], gpus: float
) -> Iterator[Done]:
    data = require("ray.data", extra=_EXTRA)
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells at length of what goes well
    files = data.from_items([asdict(source) for source in left], override_num_blocks=len(left))
    units = files.map_batches(
        partial(_read, rows_per_unit=config.settings.rows_per_unit, found=found),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
    ).repartition(target_num_rows_per_block=1)  # a block is what a worker gets, and so what it may lose
    lines = units.map_batches(
        BulkWorker,
        fn_constructor_args=(config.asker, output.uri),
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=config.settings.workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    for line in lines.iter_rows():
        yield told(line["line"])


def _read(files: Any, *, rows_per_unit: int, found: frozenset[str]) -> Iterator[Any]:
    """The units that no earlier start finished; always the same, so that Ray can repeat the reading."""
    for file in files.to_pylist():
        for unit in read_units(SourceFile(**file), rows_per_unit):
            if unit.name not in found:
                yield to_table(unit)


@contextmanager
def _cluster(settings: BulkSettings) -> Iterator[float]:
    """A cluster with room for the workers and a reader; gives the GPUs of each worker."""
    ray = require("ray", extra=_EXTRA)
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(settings)
    try:
        resources = ray.cluster_resources()
        gpus = settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if resources.get("GPU") else 0.0
        needed = {"CPU": settings.workers + 1.0, "GPU": settings.workers * gpus}
        for name, count in needed.items():
            if resources.get(name, 0.0) < count:
                raise InputError(
                    f"the cluster has {resources.get(name, 0.0):g} {name}s, {count:g} are needed",
                    hint="give fewer workers: each needs a CPU, the reading one more",
                )
        yield gpus
    finally:
        if is_ours:
            ray.shutdown()


def _start(settings: BulkSettings) -> None:
    ray = require("ray", extra=_EXTRA)
    if settings.address:
        _check_reachable(settings.address)
        try:
            ray.init(address=settings.address, log_to_driver=False)
        except ConnectionError as error:
            raise _no_cluster(settings.address) from error
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=max(settings.workers + 1, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
        object_store_memory=settings.object_store_bytes,
    )


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is not None:
        try:
            socket.create_connection((match["host"], int(match["port"])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address) from error


def _no_cluster(address: str) -> InputError:
    return InputError(f"there is no Ray cluster at {address!r}", hint="start one: ray start --head")


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of Ray as what they mean for the job."""
    ray = require("ray", extra=_EXTRA)
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = str(error).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), type(error).__name__)
        raise WorkError(
            f"the job stopped: {last}", hint="the same command goes on with the units that are left"
        ) from error


def _report(output: BulkOutput, *, num_found: int) -> BulkReport:
    names = output.finished()
    counts = [output.counts(name) for name in names]
    return BulkReport(
        output=output.uri,
        num_predictions=sum(predictions for predictions, _ in counts),
        num_problems=sum(problems for _, problems in counts),
        num_units=len(names),
        num_found=num_found,
    )
