"""Memory of a process that measures itself, from Linux' counters.

Two figures answer two questions. The peak of the whole process is what a machine must have; it contains the libraries that an engine
loads and what its compiler needs for a moment. The peak of the measured steps above the process before its first step is what training
itself takes: activations, gradients, optimizer slots and copies of weights. Libraries, weights and batches lie below it for every engine
alike, and the compiler's memory is given back first.
"""

import ctypes
import pathlib

STATUS = pathlib.Path("/proc/self/status")
CLEAR_REFS = pathlib.Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def resident_bytes() -> int:
    """Returns the memory that the process holds now."""
    return _field("VmRSS")


def peak_bytes() -> int:
    """Returns the most that the process has held since it started, or since `reset_peak`."""
    return _field("VmHWM")


def reset_peak() -> None:
    """Gives freed memory back to the system and starts the peak anew from what is held."""
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_REFS.write_text(RESET_PEAK)


def _field(name: str) -> int:
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
