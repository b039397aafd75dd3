"""Folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from electra_keras.errors import UserError
from electra_keras.files import locked_folder, sync_folder, writing


@contextlib.contextmanager
def replaced_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write into, which takes the path's name, and place, when the block ends without an error.

    What a killed process left behind is removed by the next one.

    Args:
        path: where the folder shall stand; a symbolic link stays one, and what it points to is replaced.

    Raises:
        UserError: another process is writing the same folder, it is a mount point or the working directory, or the file system refuses.
        OSError: what the block raises for another reason than that the folder cannot be written.
    """
    with writing(path), _built_beside(path.resolve()) as folder:
        yield folder


def check_free(path: pathlib.Path) -> None:
    """Raises UserError where a folder holds something, or the path is a file: `replaced_folder` would replace it."""
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path} is not empty. Choose a new folder.")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file. Choose a new folder.")


@contextlib.contextmanager
def _built_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    _check_movable(path)
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
            sync_folder(path.parent)
            shutil.rmtree(outdated, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _check_movable(path: pathlib.Path) -> None:
    """Raises UserError where another folder cannot take a folder's place: a mount point, and the one that the process stands in."""
    if os.path.ismount(path):
        kind = "a mount point"
    elif path.exists() and path.samefile(os.curdir):
        kind = "the working directory"
    else:
        return
    raise UserError(f"{path} is {kind}, which cannot be replaced. Choose a folder within it, for example {path / 'data'}.")


def _empty(folder: pathlib.Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
