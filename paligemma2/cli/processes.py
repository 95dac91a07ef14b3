"""Several processes of `torchrun` with one command line: the first speaks for all of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from paligemma2.errors import Interrupted, PaliGemmaError


def is_first_process() -> bool:
    """Whether this is the process that prints and writes files: the first of `torchrun`, or the only one."""
    return _rank() == 0


@contextmanager
def first_process_speaks() -> Iterator[None]:
    """Nothing is printed by the other processes, but for the error that ends one; it says whose it is."""
    # While one process waits for the others in foreign code, a handler of Python's would not be called.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        if is_first_process():
            yield
        else:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        _leave()
    except Interrupted as error:
        if is_first_process():
            raise
        raise SystemExit(error.exit_code) from error  # all stop together, and the first says so
    except PaliGemmaError as error:
        if not is_first_process():
            error.message = f"process {_rank()}: {error.message}"
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # so that nobody leaves while another still waits for it
        dist.destroy_process_group()
