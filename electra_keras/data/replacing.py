"""Folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from electra_keras.errors import UserError
from electra_keras.files import locked_folder


@contextlib.contextmanager
def replaced_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write into, which takes the path's name, and place, when the block ends without an error.

    What a killed process left behind is removed by the next one.

    Args:
        path: where the folder shall stand.

    Raises:
        UserError: another process is writing the same folder, or the file system refuses.
    """
    try:
        with _built_beside(path.absolute()) as folder:
            yield folder
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder.") from error


@contextlib.contextmanager
def _built_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, outdated = (path.with_name(f".{path.name}.{kind}") for kind in ("partial", "outdated"))
    partial.mkdir(exist_ok=True)
    refusal = f"Another process is preparing {path}. Wait for it, or choose another folder."
    with locked_folder(partial, refusal) as descriptor:
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
