import os
import signal
import threading
from collections.abc import Iterator

import pytest

from paligemma2.training.interruption import stop_request

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """As in a fresh Python, whatever the test runner has set."""
    before = [signal.getsignal(number) for number in BOTH]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, raise_exit)
    yield
    for number, handler in zip(BOTH, before, strict=True):
        signal.signal(number, handler)


def raise_exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_only_raises_a_flag(number: int) -> None:
    with stop_request() as request:
        assert request.signal_number == 0
        os.kill(os.getpid(), number)
        assert request.signal_number == number


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("first", BOTH)
def test_the_second_signal_acts_as_usual(first: int) -> None:
    with pytest.raises(KeyboardInterrupt), stop_request():
        send(first, signal.SIGINT)
    with pytest.raises(SystemExit), stop_request():
        send(first, signal.SIGTERM)


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM,), ()])
def test_afterwards_the_handlers_are_those_from_before(numbers: tuple[int, ...]) -> None:
    with stop_request():
        send(*numbers)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is raise_exit


def test_in_another_thread_nothing_is_caught_and_nothing_breaks() -> None:
    numbers = []

    def work() -> None:
        with stop_request() as request:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            numbers.append(request.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [0]
