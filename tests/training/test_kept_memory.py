import json
import platform
import subprocess
import sys

import keras
import pytest
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.training import kept_memory
from electra_keras.training.run import build_pretrainer, pretrain

PROGRAM = """
import ctypes, json, resource, threading
from electra_keras.training.kept_memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [b"x" * {size} for _ in range({count})]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def compare():
    given_back = page_faults()
    keep_freed_memory()
    {after}
    page_faults()
    print(json.dumps([given_back, page_faults()]))

{call}
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(
    ("size", "count", "call", "after"),
    [
        (2**26, 1, "compare()", "pass"),
        (2**24, 6, "thread = threading.Thread(target=compare); thread.start(); thread.join()", "pass"),
        # What TensorFlow's generator datasets do under Python 3.11: sizes from 128 KB on are mapped.
        (2**26, 1, "compare()", "assert ctypes.CDLL(None).mallopt(-3, 2**17) == 1"),
    ],
    ids=["one large array", "several heaps of a thread's own", "a threshold that another library sets"],
)
def test_freed_memory_is_taken_again(size, count, call, after):
    program = PROGRAM.format(size=size, count=count, call=call, after=after)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    given_back, kept = json.loads(process.stdout)
    # Ten times 64 MB or more: 163,840 pages of 4 KB, or 320 of 2 MB.
    assert given_back >= 320
    assert kept < given_back / 10


LARGE_ARRAYS = """
import ctypes, json
from electra_keras.training.kept_memory import keep_freed_memory

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
places = []
for step in range(8):
    places.append(libc.malloc(2**28))
    result = libc.malloc(2**20)
    libc.free(places[-1])
    batch = libc.malloc(2**16)
print(json.dumps(places))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_large_array_lies_where_the_last_one_was_whatever_small_ones_stay():
    process = subprocess.run([sys.executable, "-c", LARGE_ARRAYS], capture_output=True, text=True, check=True)
    assert len(set(json.loads(process.stdout))) == 1


def test_another_c_library_is_left_alone(monkeypatch):
    loaded = []
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", loaded.append)
    kept_memory.keep_freed_memory()
    assert loaded == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_refused_setting_is_said(monkeypatch):
    class Refusing:
        def mallopt(self, parameter, value):
            return 0

    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda name: Refusing())
    kept_memory._keep_freed_memory.cache_clear()
    with pytest.raises(RuntimeError, match="mallopt refused parameter -1"):
        kept_memory.keep_freed_memory()


@pytest.mark.backend
def test_a_run_keeps_freed_memory_and_a_scripts_own_fit_does_not(monkeypatch, tmp_path, config, data_dir):
    calls = []
    monkeypatch.setattr("electra_keras.training.run.keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(kept_memory, "_keep_freed_memory", lambda: calls.append("kept by fit"))
    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    x, y, weights = random_batch()
    model.fit(x, y, sample_weight=weights, batch_size=len(y), verbose=0)
    assert calls == []
    pretrain(config, tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    assert calls == ["kept"]
