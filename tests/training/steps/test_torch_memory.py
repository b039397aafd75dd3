import json
import platform
import subprocess
import sys

import pytest

from electra_keras.training.steps import torch_memory

PROGRAM = """
import json, resource
from electra_keras.training.steps.torch_memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = page_faults()
keep_freed_memory()
b"x" * 2**26
print(json.dumps([given_back, page_faults()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_taken_again():
    process = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    given_back, kept = json.loads(process.stdout)
    # Ten times 64 MB: 163,840 pages of 4 KB, or 320 of 2 MB.
    assert given_back >= 320
    assert kept < given_back / 10


def test_another_c_library_is_left_alone(monkeypatch):
    loaded = []
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(torch_memory.ctypes, "CDLL", loaded.append)
    torch_memory.keep_freed_memory()
    assert loaded == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_refused_setting_is_said(monkeypatch):
    class Refusing:
        def mallopt(self, parameter, value):
            return 0

    monkeypatch.setattr(torch_memory.ctypes, "CDLL", lambda name: Refusing())
    with pytest.raises(RuntimeError, match="mallopt refused parameter -1"):
        torch_memory.keep_freed_memory()
