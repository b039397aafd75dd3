"""Large memory pages for training, whose steps fill hundreds of megabytes."""

import os
import sys

TUNABLES = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb"


def restart_with_huge_pages() -> None:
    """Replaces the process by itself with glibc asked for large pages; returns where that is settled already, or not on Linux.

    Mapping and clearing pages of 4 KB was a quarter of the processor time of training configs/pretrain/tiny.yaml on JAX, and in large pages
    an eighth, while every step took its memory anew. Since training keeps it, the paper's small still runs 1.14 times as fast, and small
    shapes as before (benchmarks/NOTES.md). glibc reads the setting only when a process starts; another C library ignores it. The process
    keeps its number, so whoever waits for it or sends it signals notices nothing.
    """
    tunables = os.environ.get(TUNABLES, "")
    if sys.platform != "linux" or SETTING in tunables:
        return
    os.environ[TUNABLES] = ":".join(filter(None, [tunables, f"{SETTING}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
