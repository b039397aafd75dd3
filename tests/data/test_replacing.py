import errno
import fcntl
import os
import pathlib

import pytest

from electra_keras.data.replacing import check_free, replaced_folder
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


def test_what_holds_nothing_is_free(tmp_path):
    check_free(tmp_path / "absent")
    check_free(tmp_path)
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=r"is not empty\. Choose a new folder"):
        check_free(tmp_path)
    with pytest.raises(UserError, match=r"is a file\. Choose a new folder"):
        check_free(tmp_path / "file")


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


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "data"
    link.symlink_to(tmp_path / "big")
    for name in ("first", "second"):
        with replaced_folder(link) as folder:
            (folder / name).write_text(name)
        assert link.is_symlink()
        assert names(tmp_path / "big") == [name]
    assert names(tmp_path) == ["big", "here"]
    assert names(tmp_path / "here") == ["data"]


def test_a_mount_point_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    target = tmp_path / "volume"
    target.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path == target)
    with pytest.raises(UserError, match=r"volume is a mount point.*for example .*volume/data\."), replaced_folder(target):
        pytest.fail("the work would be lost")
    assert names(tmp_path) == ["volume"]


def test_the_working_directory_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is the working directory"), replaced_folder(pathlib.Path()):
        pytest.fail("the shell would be left in a deleted folder")
    assert names(tmp_path) == []


def test_reports_that_nobody_reads_any_more_are_no_error_of_the_disk(tmp_path):
    with pytest.raises(BrokenPipeError), replaced_folder(tmp_path / "data"):
        raise BrokenPipeError(32, "Broken pipe")
    assert names(tmp_path) == []


def test_a_process_that_cannot_be_started_is_no_error_of_the_disk(tmp_path):
    failure = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with pytest.raises(OSError) as caught, replaced_folder(tmp_path / "data"):
        raise failure
    assert caught.value is failure
    assert names(tmp_path) == []


def test_a_full_disk_behind_a_link_is_a_user_error_about_the_link(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "big")
    with pytest.raises(UserError, match=r"Cannot write .*/data: No space left"), replaced_folder(tmp_path / "data") as folder:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "shard.npy"))
    assert names(tmp_path / "big") == []
