"""How long training takes, and how much of that it waits for data."""

import time
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from electra_keras.arrays import Arrays

_PREFIX = "clock/"


class Clock:
    """Seconds of training, without what validation and checkpoints take; it survives a resume.

    Attributes:
        report_seconds: up to the last pause, since the last report.
        earlier_seconds: all reports before it.
        waiting_seconds: since the last report, in which the step had no batch to work on.
    """

    def __init__(self, report_seconds: float = 0.0, earlier_seconds: float = 0.0, waiting_seconds: float = 0.0):
        self.report_seconds, self.earlier_seconds, self.waiting_seconds = report_seconds, earlier_seconds, waiting_seconds
        self.go_on()

    def read(self) -> float:
        """Returns the seconds since the last report, pauses left out."""
        return self.report_seconds + (time.perf_counter() - self._started)

    def pause(self) -> None:
        """Stops counting."""
        self.report_seconds = self.read()

    def go_on(self) -> None:
        """Counts again after a pause."""
        self._started = time.perf_counter()

    def start_report(self) -> None:
        """Begins to count a new report's seconds."""
        self.earlier_seconds += self.read()
        self.report_seconds = self.waiting_seconds = 0.0
        self.go_on()

    def state(self) -> Arrays:
        """Returns what a checkpoint keeps of a paused clock."""
        names = ("report_seconds", "earlier_seconds", "waiting_seconds")
        return {_PREFIX + name: np.float64(getattr(self, name)) for name in names}

    @classmethod
    def from_state(cls, state: Arrays) -> "Clock":
        """Takes a clock's part out of a checkpoint's state, and goes on with it."""
        names = [name for name in state if name.startswith(_PREFIX)]
        return cls(**{name.removeprefix(_PREFIX): float(state.pop(name)) for name in names})


class TimedBatches(grain.IterDataset):
    """Hands batches on and adds up how long each was waited for.

    A batch that was prefetched in time costs nothing here. Where steps run asynchronously, some of the waiting is hidden behind
    the step before, so the sum is an upper bound of the time lost.

    Args:
        batches: Grain data set.
        clock: its waiting_seconds grow.
    """

    def __init__(self, batches: grain.IterDataset, clock: Clock):
        super().__init__(batches)
        self._clock = clock

    def __iter__(self) -> "_TimedIterator":
        return _TimedIterator(iter(self.parents[0]), self._add)

    def _add(self, seconds: float) -> None:
        self._clock.waiting_seconds += seconds


class _TimedIterator(grain.DatasetIterator):
    def __init__(self, batches: grain.DatasetIterator, add: Callable[[float], None]):
        super().__init__(batches)
        self._batches, self._add = batches, add

    def __next__(self) -> Any:
        started = time.perf_counter()
        batch = next(self._batches)
        self._add(time.perf_counter() - started)
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the position, which is that of the data set behind."""
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves to a position."""
        self._batches.set_state(state)
