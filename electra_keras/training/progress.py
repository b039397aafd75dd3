"""What a person sees of a run: a bar with the newest figures on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Reports a run's steps on standard output."""

    def __init__(self, start_step: int, num_steps: int):
        self.start_step, self.num_steps = start_step, num_steps
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Bar | None = None
        self._task: Any = None
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def running(self) -> Iterator["Progress"]:
        """Shows the bar while the run lasts, on a terminal only."""
        if not self.console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=self.console) as self._bar:
            self._task = self._bar.add_task("training", total=self.num_steps, completed=self.start_step)
            yield self
        self._bar = None

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        self.console.print(message, markup=False)

    def report_training(self, line: Mapping[str, Any]) -> None:
        """Prints a line of training metrics."""
        self.say(f"{self._step(line)}  {_figures(line)}{self._time_left(line)}")

    def report_validation(self, line: Mapping[str, Any]) -> None:
        """Prints a line of held-out metrics."""
        self.say(f"{self._step(line)}  held-out: {_figures({name.removeprefix('val_'): value for name, value in line.items()})}")

    def _step(self, line: Mapping[str, Any]) -> str:
        width = len(f"{self.num_steps:,}")
        return f"step {line['step']:>{width},}/{self.num_steps:,}"

    def _time_left(self, line: Mapping[str, Any]) -> str:
        done = line["step"] - self.start_step
        if self._bar is not None or done <= 0:
            return ""
        seconds = (time.perf_counter() - self._started) / done * (self.num_steps - line["step"])
        return f"  {int(seconds // 60)}:{int(seconds % 60):02d} left"


# Metric -> how a person reads it.
_LABELS = {
    "generator_loss": "generator loss {:.3f}",
    "generator_accuracy": "accuracy {:.1%}",
    "detection_loss": "detection loss {:.4f}",
    "replaced_fraction": "replaced {:.1%}",
    "detection_auc": "AUC {:.3f}",
    "precision": "precision {:.2f}",
    "recall": "recall {:.2f}",
    "tokens_per_second": "{:,.0f} tokens/s",
}


def _figures(line: Mapping[str, Any]) -> str:
    return "  ".join(text.format(line[name]) for name, text in _LABELS.items() if line.get(name) is not None)
