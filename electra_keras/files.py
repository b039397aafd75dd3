"""Files that appear whole or not at all: temporary name, sync, rename. Folders that one process holds at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from electra_keras.errors import UserError

# Failures of the machine that the user can mend, whatever file they befall.
MENDABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO})
# Those that the user can mend where they befall the path that was asked for: something else stands there or above it, or took it away.
_OF_THE_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EBUSY, errno.EXDEV})
# What a file system that knows no locks answers, such as some network and user-space ones.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Tells the user where the block cannot write a path for a reason that the user can mend.

    Any other error of the system passes: a block may last for hours and start processes, whose failures no free space mends.

    Args:
        path: what is written; names that begin with .NAME. in its folder count as its own.

    Raises:
        UserError: there is no space or no permission, or something else stands there.
    """
    try:
        yield
    except OSError as error:
        # A full disk and a failing one name no file.
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
        mendable = MENDABLE | _OF_THE_PATH if names else MENDABLE
        if error.errno not in mendable or (names and not any(_is_part_of(name, path) for name in names)):
            raise
        raise UserError(f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder.") from error


def _is_part_of(name: str, path: str | os.PathLike) -> bool:
    """Whether a name is that of a path, of a folder above it, of something in it, or of what is made beside it until it is complete."""
    found = pathlib.Path(os.path.abspath(name))
    # A folder that is replaced is the one that a link points to; of a file it is the link.
    for place in map(pathlib.Path, (os.path.abspath(path), os.path.realpath(path))):
        own_start = os.path.join(place.parent, f".{place.name}.")
        if place.is_relative_to(found) or found.is_relative_to(place) or os.fspath(found).startswith(own_start):
            return True
    return False


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
    with writing(path):
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
        UserError: another process holds it, or its file system knows no locks.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(refusal) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise UserError(
                f"Cannot lock {path} against other processes: {error.strerror}. Choose a folder on a file system that has locks."
            ) from error
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
