import fcntl
import os

import pytest

from electra_keras.data.replacing import replaced_folder
from electra_keras.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "data"
    with replaced_folder(target) as folder:
        (folder / "new").write_text("new")
        assert not target.exists()
    assert names(target) == ["new"]
    assert names(tmp_path / "deep") == ["data"]


def test_an_older_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "old").write_text("old")
    with replaced_folder(target) as folder:
        (folder / "new").write_text("new")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["data"]


def test_an_error_leaves_the_older_folder(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced_folder(target) as folder:
        (folder / "new").write_text("new")
        raise KeyboardInterrupt
    assert names(target) == ["old"]
    assert names(tmp_path) == ["data"]


def test_what_a_killed_process_left_is_not_taken_over(tmp_path):
    (tmp_path / ".data.partial" / "folder").mkdir(parents=True)
    (tmp_path / ".data.partial" / "stale").write_text("stale")
    with replaced_folder(tmp_path / "data") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path / "data") == ["new"]


def test_two_at_once_are_refused(tmp_path):
    (tmp_path / ".data.partial").mkdir()
    (tmp_path / ".data.partial" / "theirs").write_text("theirs")
    descriptor = os.open(tmp_path / ".data.partial", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another process is preparing"), replaced_folder(tmp_path / "data"):
            pytest.fail("the folder belongs to the other process")
        assert names(tmp_path / ".data.partial") == ["theirs"]
    finally:
        os.close(descriptor)
