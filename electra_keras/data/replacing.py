"""Folders that appear whole or not at all."""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from electra_keras.errors import UserError


@contextlib.contextmanager
def replaced_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write into, which takes the path's name, and place, when the block ends without an error.

    What a killed process left behind is removed by the next one.

    Args:
        path: where the folder shall stand.

    Raises:
        UserError: another process is writing the same folder.
        OSError: the file system refuses.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, outdated = (path.with_name(f".{path.name}.{kind}") for kind in ("partial", "outdated"))
    partial.mkdir(exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        _lock(descriptor, path)
        _empty(partial)
        try:
            yield partial
            os.fsync(descriptor)
            if path.exists():
                shutil.rmtree(outdated, ignore_errors=True)
                path.rename(outdated)
            partial.rename(path)
            _sync(path.parent)
            shutil.rmtree(outdated, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        # The lock goes with the descriptor, and with the process.
        os.close(descriptor)


def _lock(descriptor: int, path: pathlib.Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"Another process is preparing {path}. Wait for it, or choose another folder.") from error


def _sync(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(folder: pathlib.Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
