import os
import subprocess
import sys

import pytest

from electra_keras.huge_pages import restart_with_huge_pages

PROGRAM = """
import os, sys
print(os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), flush=True)
from electra_keras.huge_pages import restart_with_huge_pages
restart_with_huge_pages()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings are Linux'")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", None),
    ],
)
def test_a_process_restarts_once_as_it_was(before, after):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if before is not None:
        environment["GLIBC_TUNABLES"] = before
    command = [sys.executable, "-c", PROGRAM, "a", "b c"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    numbers, rest = zip(*(line.split(" ", 1) for line in process.stdout.splitlines()), strict=True)
    assert rest == tuple(f"['a', 'b c'] {value}" for value in ([before] if after is None else [before, after]))
    assert len(set(numbers)) == 1


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "execv", lambda *arguments: pytest.fail("restarted"))
    restart_with_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ
