"""Who gets what a command prints: results alone for a program that reads them, and progress that the work outlives."""

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

from electra_keras.errors import UserError

# A pipe or a socket without a reader, and a terminal that has been closed.
_UNREAD = {errno.EPIPE, errno.ECONNRESET, errno.EIO}
_READER_HAS_LEFT = b"electra-keras: nobody reads standard output any more; the rest is shown here.\n"


def reports_on_stderr() -> contextlib.AbstractContextManager:
    """Sends what the block prints to standard error: standard output holds the results alone, for whoever reads them by a program.

    Raises:
        UserError: standard output is closed.
    """
    if sys.stdout is None:
        raise UserError("Standard output is closed, and the results go there. Send them to a file or a pipe.")
    return contextlib.redirect_stdout(sys.stderr)


def lasting_output() -> contextlib.AbstractContextManager:
    """Keeps a command going, while the block lasts, when the reader of its standard output leaves.

    For commands whose work lies on disk, hours of which must not be lost with the reader of their progress. Readers leave as in `| head`,
    or where Ctrl-C ends `| tee` too. The rest then goes to standard error, or nowhere where nobody reads that either.
    """
    return contextlib.nullcontext() if sys.stdout is None else contextlib.redirect_stdout(_LastingOutput(sys.stdout))


class _LastingOutput:
    """A line-buffered stream that survives the loss of its reader."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._go_on_elsewhere(error)
            if self._stream.write_through:
                # Without a buffer the text is lost with the reader.
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._go_on_elsewhere(error)

    def _go_on_elsewhere(self, error: OSError) -> None:
        if error.errno not in _UNREAD:
            raise error
        # The descriptor is what changes, so that what the stream still holds goes along, and Python's flush at exit does not fail.
        with open(os.devnull, "wb") as nowhere:
            place = nowhere.fileno()
            if sys.stderr is not None:
                # Nor has standard error to be one that takes it.
                with contextlib.suppress(OSError):
                    os.write(sys.stderr.fileno(), _READER_HAS_LEFT)
                    place = sys.stderr.fileno()
            os.dup2(place, self._stream.fileno())
        self._stream.flush()
