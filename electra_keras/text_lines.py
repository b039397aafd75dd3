"""Lines of UTF-8 text from a file or a pipe, handed on as soon as they have arrived."""

import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

from electra_keras.errors import UserError

_BLOCK_BYTES = 1 << 16


def line_batches(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """Yields the lines that each read has completed, without their line ends.

    A read waits for the first byte only: a slow writer gets its answers line by line, a file goes through in large batches.

    Args:
        stream: buffered binary stream with `read1`.
        name: what the stream is called in messages.

    Raises:
        UserError: a line is not UTF-8, or there is no line at all.
    """
    count, pending = 0, []
    while block := stream.read1(_BLOCK_BYTES):
        *complete, rest = block.split(b"\n")
        if complete:
            complete[0] = b"".join([*pending, complete[0]])
            yield [_decode(line, name, count + number) for number, line in enumerate(complete, start=1)]
            count += len(complete)
            pending = []
        # A list, since joining a long line anew at every read would take quadratic time.
        pending.append(rest)
    if last := b"".join(pending):
        yield [_decode(last, name, count + 1)]
    elif count == 0:
        raise UserError(f"{name} is empty. Give at least one line of text.")


def typed_lines() -> Iterator[list[str]]:
    """Returns the lines of standard input as `line_batches` yields them; at a terminal, says how to type them.

    Raises:
        UserError: standard input is closed.
    """
    if sys.stdin is None:
        raise UserError("Standard input is closed. Give --text or --file.")
    if sys.stdin.isatty():
        print("Type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
    return line_batches(sys.stdin.buffer, "standard input")


def check_text_file(path: str | os.PathLike) -> None:
    """Reads a file to its end, so that one which is not text is refused before anything has been printed.

    A pipe or a device is left alone: it gives its text only once.

    Raises:
        UserError: the file is missing, unreadable, empty or not UTF-8.
    """
    try:
        if stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFIFO, stat.S_IFCHR):
            return
        with open(path, "rb") as file:
            for _ in line_batches(file, str(path)):
                pass
    except FileNotFoundError:
        raise UserError(f"There is no file {path}. Check the path.") from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Give a readable text file.") from error


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        # A byte order mark can only stand in front of the first line.
        return line.removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}, line {number} is not UTF-8 text (byte {error.start + 1}). Convert it to UTF-8.") from None
