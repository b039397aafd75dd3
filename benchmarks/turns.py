"""Engines in processes of their own, which take turns: one JSON object a line to the engine, one back.

A process stays alive between its turns, so that loading and compilation are paid once and what else the machine does hits all engines
alike.
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class EngineProcess:
    """The parent's side.

    Args:
        script: what the process runs; it lies beside this file.
        job: its first argument, as JSON.
        environment: variables beside the parent's own.
    """

    def __init__(self, script: str, job: Mapping[str, Any], environment: Mapping[str, str]):
        self._engine = job["engine"]
        command = [sys.executable, os.fspath(pathlib.Path(__file__).with_name(script)), json.dumps(job)]
        variables = {**os.environ, **environment}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a command and waits for its answer.

        Raises:
            RuntimeError: the process has ended.
        """
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Waits for the next line.

        Raises:
            RuntimeError: the process has ended.
        """
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def close(self) -> None:
        """Ends the process, if it has not ended itself."""
        # What it never read is still written when the pipe is closed.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"The process of {self._engine} ended with code {self._process.wait()}; its message stands above.")


def take_answers() -> Callable[[Mapping[str, Any]], None]:
    """Returns the engine's side: a function that sends one line. Whatever libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: Mapping[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    return answer


def speed_ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """Returns how many times as fast one engine is as another: the median over the rounds of the ratio within a round."""
    return round(statistics.median(b / a for a, b in zip(seconds, others, strict=True)), 3)
