"""The memory of a step's intermediate results, which the next step takes again."""

import ctypes
import platform

# The names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
_UNLIMITED = -1
_THREAD_HEAP = 64 << 20
"""Bytes of a heap of a thread's own, on 64-bit systems: with so much to spare glibc keeps those that become empty."""


def keep_freed_memory() -> None:
    """Lets malloc keep, until the process ends, all memory that is freed, for whoever asks next; returns at once where there is no glibc.

    The backends take a step's intermediate results from malloc, PyTorch one by one and XLA many at once. By itself glibc gives the large
    ones back to the system as they are freed, which maps and clears their pages anew at the next step.

    A size from which to map would not last: under Python 3.11, TensorFlow's generator datasets set one of their own when they start.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((M_TRIM_THRESHOLD, _UNLIMITED), (M_MMAP_MAX, 0), (M_TOP_PAD, _THREAD_HEAP)):
        if libc.mallopt(parameter, value) != 1:
            raise RuntimeError(f"glibc's mallopt refused parameter {parameter}.")
