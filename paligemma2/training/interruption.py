"""Ctrl-C and SIGTERM as a request to save and stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether somebody asked to stop: `signal_number` is 0, 2 (Ctrl-C) or 15 (SIGTERM)."""

    signal_number: int = 0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the first Ctrl-C or SIGTERM in a flag; a second one acts at once, as usual.

    Outside the main thread, where Python allows no handlers, the flag never rises.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
