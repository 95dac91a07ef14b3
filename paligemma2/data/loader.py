"""Batches made in worker processes, in an order that depends on the step alone."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from paligemma2.errors import PaliGemmaError, WorkError

TIMEOUT_SECONDS = 600.0
_BATCHES_AHEAD = 2
_SECONDS_TO_DIE = 1.0
_SECONDS_BETWEEN_LOOKS = 2.0  # at workers whose death no signal told
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class _Failed:
    error: PaliGemmaError


class _Steps(Dataset["Batch | _Failed"], Generic[Batch]):
    def __init__(self, make_batch: Callable[[int], Batch]) -> None:
        self._make_batch = make_batch

    def __getitem__(self, step: int) -> "Batch | _Failed":
        try:
            return self._make_batch(step)
        except PaliGemmaError as error:  # raised in a worker it would arrive as text with a traceback
            return _Failed(error)


def load_batches(
    make_batch: Callable[[int], Batch],
    start: int,
    stop: int,
    *,
    num_workers: int = 0,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[Batch]:
    """The batches of steps `start` up to `stop`, in order, whatever the number of workers.

    The state of the loader is the step itself, which is what makes a resumed run exact.

    Args:
        make_batch: a pure function of the step; is pickled where workers are not forked.
        start: first step.
        stop: step to end before.
        num_workers: processes that make batches, two ahead each; 0 makes them in this one.
        timeout: seconds after which a worker that is to give a batch is taken for hung.

    Raises:
        PaliGemmaError: whichever `make_batch` raises, also from a worker.
        WorkError: a worker was killed, which is noticed at once (outside of the main thread not if it was in
            the middle of handing over a batch), or gave nothing for `timeout` seconds.
    """
    with warnings.catch_warnings():
        # How many workers serve well is the user's to say; torch complains twice if there are fewer cores.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            _Steps(make_batch),
            sampler=range(start, stop),
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=_BATCHES_AHEAD if num_workers else None,
            timeout=min(timeout, _SECONDS_BETWEEN_LOOKS) if num_workers else 0,
            worker_init_fn=_prepare_worker if num_workers else None,
        )
        batches = _started(loader)
    try:
        for batch in _watched(batches, timeout):
            if isinstance(batch, _Failed):
                raise batch.error
            yield batch
    finally:
        _end_workers(batches)


def _started(loader: "DataLoader[Batch | _Failed]") -> Iterator["Batch | _Failed"]:
    """The iterator of a loader, without torch's handler of SIGCHLD.

    That handler raises a RuntimeError wherever the process is when a worker dies, also in the middle of an
    update or of saving.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if _is_main_thread() and before is not None:
        signal.signal(signal.SIGCHLD, before)
    return batches


def _watched(batches: Iterator["Batch | _Failed"], timeout: float) -> Iterator["Batch | _Failed"]:
    """What the iterator gives, with the end of a worker told in words."""
    workers, deadline = _workers(batches), time.monotonic() + timeout
    while True:
        try:
            with _ended_by_death_of(workers):
                batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:  # `make_batch` may raise such errors too
            if isinstance(error, OSError | EOFError):
                _await_exit_code(workers)
            _check_alive(workers)
            if not str(error).startswith("DataLoader timed out"):
                raise
            if time.monotonic() > deadline:
                raise WorkError(
                    f"a process that makes batches gave none for {timeout:g} seconds",
                    hint="is the disk of the data set still there? the run goes on from its last saved state",
                ) from None
            continue
        yield batch
        deadline = time.monotonic() + timeout


@contextmanager
def _ended_by_death_of(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Raise WorkError as soon as a worker is dead, also from a read of what it left half written."""

    def check(number: int, frame: FrameType | None) -> None:
        _check_alive(workers)
        if callable(before):
            before(number, frame)

    _check_alive(workers)
    before = signal.getsignal(signal.SIGCHLD)
    if not workers or not _is_main_thread() or before is None:
        yield
        return
    signal.signal(signal.SIGCHLD, check)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _check_alive(workers: Sequence[BaseProcess]) -> None:
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    if dead:
        how = f"by signal {-dead[0]}" if dead[0] < 0 else f"with code {dead[0]}"
        raise WorkError(
            f"a process that makes batches ended {how}",
            hint="the memory, or the shared memory (/dev/shm), may have been full: use fewer workers or "
            "smaller batches; the run goes on from its last saved state",
        )


def _await_exit_code(workers: Sequence[BaseProcess]) -> None:
    """Of a worker whose pipes are broken: they break a moment earlier."""
    ending = wait([worker.sentinel for worker in workers], timeout=_SECONDS_TO_DIE)
    for worker in workers:
        if worker.sentinel in ending:
            worker.join(_SECONDS_TO_DIE)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _workers(batches: object) -> Sequence[BaseProcess]:
    return getattr(batches, "_workers", ())


def _end_workers(batches: object) -> None:
    """End the workers now: left to the garbage collector, it may happen in a forked child, and hang."""
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is None:  # no workers
        return
    shut_down()
    for worker in _workers(batches):
        worker.kill()  # they ignore SIGTERM, and an exiting process waits for all its children
        worker.join(_SECONDS_TO_DIE)


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group: the trainer must live to save, so its workers ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
