"""Maps a function over a stream on all cores, in order and with bounded memory.

Own processes on pipes rather than `multiprocessing`: a forked copy of a process that runs JAX or TensorFlow threads can
hang; a spawned one imports the user's script again, which must then be guarded; and both outlive a parent that was
killed. These processes import only the function they were given, and end with the pipe, however the parent ends.
"""

import collections
import contextlib
import itertools
import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from electra_keras.errors import WorkerError

# Items on their way for each worker: one at work and one waiting, so that no worker waits for the parent.
ITEMS_PER_WORKER = 2


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(function: Callable[[Any], Any], items: Iterable[Any], workers: int | None = None) -> Iterator[Any]:
    """Yields function(item) for every item, in the items' order.

    At most two items a worker are read ahead, so neither a long stream nor a slow consumer fills the memory.

    Args:
        function: picklable; sent to each worker once, so it may carry data such as a vocabulary.
        items: picklable; read in the calling thread.
        workers: number of processes; all available cores by default.

    Raises:
        Exception: what `function` raised for an item.
        WorkerError: a worker process ended, for example because memory ran out.
    """
    workers = workers or available_cores()
    items = iter(items)
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def call(item: Any) -> Any:
        worker = idle.get()
        try:
            return worker.call(item)
        finally:
            idle.put(worker)

    with contextlib.ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(_Worker(function)))
        # Threads that only wait for their process. They end before the processes do.
        threads = stack.enter_context(ThreadPoolExecutor(workers))
        pending: collections.deque[Future] = collections.deque()
        stack.callback(lambda: [future.cancel() for future in pending])
        for item in itertools.islice(items, workers * ITEMS_PER_WORKER):
            pending.append(threads.submit(call, item))
        while pending:
            result = pending.popleft().result()
            for item in itertools.islice(items, 1):
                pending.append(threads.submit(call, item))
            yield result


class _Worker:
    """One process that applies a function to what it is sent."""

    def __init__(self, function: Callable[[Any], Any]):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
            # One thread a worker: there are as many workers as cores.
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [sys.executable, "-P", "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        # One that has ended already is noticed at its first item.
        with contextlib.suppress(BrokenPipeError):
            _send(self._process.stdin, function)

    def call(self, item: Any) -> Any:
        try:
            _send(self._process.stdin, item)
            result, error = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as cause:
            code = self._process.wait()
            raise WorkerError(
                f"A worker process ended with code {code}; -9 means that the system ran out of memory. "
                "Free some, or let the program use fewer cores (each has a worker), for example with `taskset -c 0`."
            ) from cause
        if error is not None:
            raise error
        return result

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        # What it is at now is of no use to anyone when the caller left early.
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _send(stream: IO[bytes], value: Any) -> None:
    pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _serve() -> None:
    """Runs in the worker: reads the function, then items until the pipe is closed."""
    # Ctrl-C reaches the whole process group; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # A stray print must not end up between the results.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    function = pickle.load(sys.stdin.buffer)
    while True:
        try:
            item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (function(item), None)
        except Exception as error:
            error.add_note("In a worker process:\n" + traceback.format_exc())
            answer = (None, error)
        _send(results, answer)


if __name__ == "__main__":
    _serve()
