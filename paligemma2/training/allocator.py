"""Memory of training on a CPU."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of glibc's <malloc.h>
_BYTES = 2**20


def leave_no_holes() -> None:
    """Let glibc give back each large tensor as soon as it is let go of; other C libraries are left alone.

    By default it keeps blocks of up to 32 MB in its heap. Tensors of a step, which come and go in all sizes,
    leave holes there, a third more memory than they need themselves.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _BYTES)
