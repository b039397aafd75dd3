"""Files that appear whole or not at all: temporary name, sync, rename. Folders that one process holds at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from electra_keras.errors import UserError


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Opens a file for writing that takes its name only when everything has been written.

    A reader, or a run resumed after a kill, sees the old file or the new one and never a part.

    Args:
        path: where the file shall stand; its folder is made when it is missing.
        mode: "w" (UTF-8 text) or "wb".

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except BrokenPipeError:
        # Not of a file: whoever reads what the block prints has seen enough.
        raise
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


@contextlib.contextmanager
def locked_folder(path: str | os.PathLike, refusal: str) -> Iterator[int]:
    """Holds a folder against other processes while the block lasts; the system frees it when the process ends, however it ends.

    Args:
        path: a folder.
        refusal: what to tell the user where another process holds it.

    Yields:
        The folder's file descriptor.

    Raises:
        UserError: another process holds it.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(refusal) from error
        yield descriptor
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    with atomic_open(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Returns the hexadecimal SHA-256 of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sync_folder(path: str | os.PathLike) -> None:
    """Makes the names in a folder last: a rename survives a power cut only once its folder has been synced."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The process' mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
