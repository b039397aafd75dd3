"""The memory of a step's intermediate results, which the next step takes again."""

import ctypes
import functools
import platform

# The names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
_UNLIMITED = -1
_THREAD_HEAP = 64 << 20
"""Bytes of a heap of a thread's own, on 64-bit systems: with so much to spare glibc keeps those that become empty."""
_ROOM = 64 << 20
"""Bytes of free memory, in one piece, for what is small; a guess that is large beside what a step leaves behind."""


def keep_freed_memory() -> None:
    """Lets malloc keep, until the process ends, all memory that is freed, for whoever asks next; returns at once where there is no glibc.

    The backends take a step's intermediate results from malloc, PyTorch one by one and XLA many at once. By itself glibc gives the large
    ones back to the system as they are freed, which maps and clears their pages anew at the next step.

    A size from which to map would not last: under Python 3.11, TensorFlow's generator datasets set one of their own when they start.

    XLA's one array of a step can lie where the last one was as long as nothing small has settled there or close behind. malloc puts what is
    small into the smallest free memory that holds it, so some is made free elsewhere. It costs address space, and no memory until it is
    used.
    """
    if platform.libc_ver()[0] == "glibc":
        _keep_freed_memory()


@functools.cache
def _keep_freed_memory() -> None:
    """The settings are the process's, and so is the room: both are made once."""
    libc = ctypes.CDLL(None)
    for parameter, value in ((M_TRIM_THRESHOLD, _UNLIMITED), (M_MMAP_MAX, 0), (M_TOP_PAD, _THREAD_HEAP)):
        if libc.mallopt(parameter, value) != 1:
            raise RuntimeError(f"glibc's mallopt refused parameter {parameter}.")
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    room, _wall = libc.malloc(_ROOM), libc.malloc(_ROOM)
    # The wall stays, for free memory at the heap's end is where large arrays come from.
    libc.free(room)
