import functools
import operator
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from electra_keras.data.workers import available_cores, parallel_map
from electra_keras.errors import WorkerError


def test_results_come_in_order_from_other_processes():
    assert list(parallel_map(functools.partial(operator.mul, 3), range(20), workers=2)) == list(range(0, 60, 3))
    processes = set(parallel_map(eval, ["__import__('os').getpid()"] * 4, workers=2))
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2


def test_no_items_give_no_results():
    assert list(parallel_map(operator.neg, [], workers=2)) == []


def test_few_items_are_read_ahead():
    read = []
    results = parallel_map(operator.neg, (read.append(item) or item for item in range(100)), workers=1)
    assert next(results) == 0
    assert len(read) <= 4
    results.close()


def test_errors_of_the_function_reach_the_caller_with_their_place():
    with pytest.raises(ZeroDivisionError) as caught:
        list(parallel_map(functools.partial(operator.floordiv, 1), [1, 0], workers=1))
    assert "In a worker process" in caught.value.__notes__[0]


def test_errors_of_the_items_reach_the_caller():
    def items():
        yield 1
        raise OSError("the source ended")

    with pytest.raises(OSError, match="the source ended"):
        list(parallel_map(operator.neg, items(), workers=1))


def test_a_worker_that_dies_is_an_error():
    with pytest.raises(WorkerError, match=r"ended with code 7; -9 means .* out of memory\. Free some"):
        list(parallel_map(eval, ["__import__('os')._exit(7)"], workers=1))


def test_a_worker_that_dies_before_it_has_its_function_is_the_same_error(monkeypatch):
    monkeypatch.setattr("electra_keras.data.workers.sys.executable", shutil.which("false"))
    more_than_a_pipe_holds = functools.partial(operator.mul, bytes(1 << 20))
    with pytest.raises(WorkerError, match="ended with code 1"):
        list(parallel_map(more_than_a_pipe_holds, [1], workers=1))


def test_prints_in_workers_do_not_disturb_the_results():
    assert list(parallel_map(eval, ["print('noise') or 5"], workers=1)) == [5]


def test_scripts_need_no_guard_and_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import os\n"
        "from electra_keras.data.workers import parallel_map\n"
        "def items():\n"
        "    yield '__import__(\"os\").getpid()'\n"
        "    while True:\n"
        "        yield '__import__(\"time\").sleep(0.01)'\n"
        "for result in parallel_map(eval, items(), workers=1):\n"
        "    if result: print(result, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    worker = pathlib.Path("/proc", parent.stdout.readline().decode().strip())
    if not pathlib.Path("/proc/self").exists():
        pytest.skip("there is no /proc here to see processes in")
    assert worker.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not worker.exists() or "Z (zombie)" in (worker / "status").read_text()


def test_cores_are_those_this_process_may_use():
    assert 1 <= available_cores() <= os.cpu_count()
