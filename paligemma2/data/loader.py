"""Batches made in worker processes, in an order that depends on the step alone."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from paligemma2.errors import PaliGemmaError

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
    make_batch: Callable[[int], Batch], start: int, stop: int, *, num_workers: int = 0
) -> Iterator[Batch]:
    """The batches of steps `start` up to `stop`, in order, whatever the number of workers.

    The state of the loader is the step itself, which is what makes a resumed run exact.

    Args:
        make_batch: a pure function of the step; is pickled where workers are not forked.
        start: first step.
        stop: step to end before.
        num_workers: processes that make batches ahead; 0 makes them in this one.

    Raises:
        PaliGemmaError: whichever `make_batch` raises, also from a worker.
    """
    loader = DataLoader(
        _Steps(make_batch),
        sampler=range(start, stop),
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_prepare_worker if num_workers else None,
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, _Failed):
                raise batch.error
            yield batch
    finally:
        _end_workers(batches)


def _end_workers(batches: object) -> None:
    """End the workers now: left to the garbage collector, it may happen in a forked child, and hang."""
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is None:  # no workers
        return
    shut_down()
    for worker in getattr(batches, "_workers", ()):
        worker.kill()  # they ignore SIGTERM, and an exiting process waits for all its children


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group: the trainer must live to save, so its workers ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
