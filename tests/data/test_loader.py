import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from paligemma2.data.loader import load_batches
from paligemma2.errors import DataError, WorkError

# On Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
WORKERS = (0, 1, 2)


@dataclass(frozen=True)
class Made:
    step: int
    noise: Tensor
    process: int
    threads: int


def make(step: int) -> Made:
    noise = torch.randn(3, generator=torch.Generator().manual_seed(step))
    return Made(step, noise, os.getpid(), torch.get_num_threads())


def fail_at_four(step: int) -> int:
    if step == 4:
        raise ValueError("step four cannot be made")
    return step


@pytest.mark.parametrize("num_workers", WORKERS)
def test_the_order_and_content_do_not_depend_on_the_workers(num_workers: int) -> None:
    made = list(load_batches(make, 3, 14, num_workers=num_workers))
    assert [batch.step for batch in made] == list(range(3, 14))
    for batch in made:
        assert torch.equal(batch.noise, make(batch.step).noise)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_a_later_start_gives_the_rest_of_the_same_batches(num_workers: int) -> None:
    whole = list(load_batches(make, 0, 9, num_workers=num_workers))
    rest = list(load_batches(make, 6, 9, num_workers=num_workers))
    assert [batch.step for batch in rest] == [6, 7, 8]
    for a, b in zip(whole[6:], rest, strict=True):
        assert torch.equal(a.noise, b.noise)


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize(("start", "stop"), [(5, 5), (6, 5)])
def test_from_the_end_on_there_is_nothing(num_workers: int, start: int, stop: int) -> None:
    assert list(load_batches(make, start, stop, num_workers=num_workers)) == []


def test_workers_are_processes_of_one_thread_each() -> None:
    made = list(load_batches(make, 0, 6, num_workers=2))
    assert len({batch.process for batch in made} - {os.getpid()}) == 2
    assert {batch.threads for batch in made} == {1}
    assert next(load_batches(make, 0, 1)).process == os.getpid()


@pytest.mark.parametrize("num_workers", WORKERS)
def test_a_batch_that_cannot_be_made_raises_after_those_before_it(num_workers: int) -> None:
    batches = load_batches(fail_at_four, 2, 9, num_workers=num_workers)
    assert [next(batches), next(batches)] == [2, 3]
    with pytest.raises(ValueError, match="step four cannot be made"):
        next(batches)


def refuse(step: int) -> int:
    raise DataError("row 7 has no picture", hint="add it")


@pytest.mark.parametrize("num_workers", WORKERS)
def test_an_error_of_ours_arrives_as_it_was_raised(num_workers: int) -> None:
    with pytest.raises(DataError) as caught:
        next(load_batches(refuse, 0, 9, num_workers=num_workers))
    assert (caught.value.message, caught.value.hint) == ("row 7 has no picture", "add it")


@pytest.mark.parametrize("num_workers", WORKERS)
def test_batches_may_be_left_unread(num_workers: int) -> None:
    batches = load_batches(make, 0, 1000, num_workers=num_workers)
    assert next(batches).step == 0
    del batches


FAILING_PROCESS = """
import gc
from paligemma2.data.loader import load_batches
from paligemma2.errors import DataError

def fail(step):
    raise ValueError

def go():
    batches = load_batches(fail, 0, 9, num_workers=2)
    try:
        next(batches)
    except ValueError as error:
        error.batches, error.itself = batches, error  # a reference cycle, as many a framework makes

go()
gc.collect()
"""


def test_a_process_ends_by_itself_after_a_batch_that_could_not_be_made() -> None:
    """The workers ignore SIGTERM, and Python waits for them when it exits."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", FAILING_PROCESS], env=environment, timeout=60, check=True)


@dataclass(frozen=True)
class Large:
    process: int
    pixels: Tensor


def make_large(step: int) -> Large:
    return Large(os.getpid(), torch.full((4_000_000,), float(step)))


def make_slowly(step: int) -> int:
    time.sleep(0.3)
    return step


def rest_of(batches: Iterator[Large]) -> None:
    for _ in batches:
        pass


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_worker_is_an_error_and_not_a_hang(num_workers: int) -> None:
    batches = load_batches(make_large, 0, 10**6, num_workers=num_workers)
    os.kill(next(batches).process, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WorkError, match="a process that makes batches ended by signal 9") as caught:
        rest_of(batches)
    assert time.monotonic() - started < 15
    assert "the run goes on from its last saved state" in caught.value.hint


@pytest.mark.parametrize("seed", range(6))
def test_a_worker_may_be_killed_at_any_moment(seed: int) -> None:
    """Also while it hands a batch over."""
    batches = load_batches(make_large, 0, 10**6, num_workers=1)
    process = next(batches).process
    delay = random.Random(seed).uniform(0.0, 0.15)
    killer = threading.Timer(delay, os.kill, (process, signal.SIGKILL))
    killer.start()
    with pytest.raises(WorkError, match="ended by signal 9"):
        rest_of(batches)
    killer.join()


def test_a_worker_that_dies_while_nobody_waits_for_it_is_told_with_the_next_batch() -> None:
    batches = load_batches(make_large, 0, 10**6, num_workers=2)
    process = next(batches).process
    os.kill(process, signal.SIGKILL)
    for _ in range(20):  # an update, in which nothing may be raised
        time.sleep(0.01)
    with pytest.raises(WorkError, match="ended by signal 9"):
        next(batches)


def make_and_wait(step: int) -> int:
    if step:
        time.sleep(60)
    return os.getpid()


def test_outside_of_the_main_thread_a_dead_worker_is_noticed_too() -> None:
    """While it makes a batch; what it left half handed over would be waited for there."""
    caught: list[Exception] = []

    def run() -> None:
        batches = load_batches(make_and_wait, 0, 10**6, num_workers=1)
        os.kill(next(batches), signal.SIGKILL)
        try:
            rest_of(batches)
        except WorkError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)
    assert len(caught) == 1


def test_the_death_of_a_process_that_is_no_worker_is_passed_on() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: told.append(number))
    try:
        batches = load_batches(make_slowly, 0, 3, num_workers=1)
        next(batches)
        with subprocess.Popen([sys.executable, "-c", "pass"]):
            assert len(list(batches)) == 2
        assert told
        assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


def hang_at_three(step: int) -> int:
    if step == 3:
        time.sleep(3600)
    return os.getpid()


def test_a_worker_that_hangs_is_an_error_after_some_time_and_is_ended() -> None:
    batches = load_batches(hang_at_three, 0, 9, num_workers=1, timeout=1)
    process = {next(batches) for _ in range(3)}.pop()
    started = time.monotonic()
    with pytest.raises(WorkError, match="gave none for 1 seconds"):
        next(batches)
    assert 1 <= time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_worker_that_is_slow_is_waited_for() -> None:
    assert list(load_batches(sleep_for_three_seconds, 0, 1, num_workers=1)) == [0]


def sleep_for_three_seconds(step: int) -> int:
    time.sleep(3)
    return step


def raise_runtime_error(step: int) -> int:
    raise RuntimeError("not of the loader")


@pytest.mark.parametrize("num_workers", WORKERS)
def test_another_error_of_the_same_kind_stays_what_it_is(num_workers: int) -> None:
    with pytest.raises(RuntimeError, match="not of the loader"):
        next(load_batches(raise_runtime_error, 0, 9, num_workers=num_workers))
