"""Signals that ask a run to stop: remembered, and acted on after the step."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupts:
    """Which of SIGTERM and SIGINT has arrived."""

    def __init__(self):
        self.received: signal.Signals | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator["Interrupts"]:
        """Catches the signals while training; a second one acts as it always did.

        Python delivers signals to the main thread only; elsewhere nothing is caught.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def remember(number, frame):
            self.received = signal.Signals(number)
            for other, handler in previous.items():
                signal.signal(other, handler)

        for number in previous:
            signal.signal(number, remember)
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
