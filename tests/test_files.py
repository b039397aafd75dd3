import errno
import hashlib
import io
import json
import os
import stat

import pytest

from electra_keras import files
from electra_keras.errors import UserError
from electra_keras.files import atomic_open, locked_folder, sha256_of, sha256_of_json, write_json, writing


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    return path


def assert_only_the_old_file(path):
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


def test_text_is_utf8_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_open(path) as file:
        file.write("é😀")
    assert path.read_bytes() == "é😀".encode()
    assert os.listdir(path.parent) == ["file.txt"]


def test_bytes_are_written_as_they_are(tmp_path):
    with atomic_open(tmp_path / "file", "wb") as file:
        file.write(b"\xff\r\n")
    assert (tmp_path / "file").read_bytes() == b"\xff\r\n"


def test_the_name_appears_only_at_the_end(old):
    with atomic_open(old) as file:
        file.write("new")
        file.flush()
        assert old.read_text() == "old"
    assert old.read_text() == "new"


@pytest.mark.parametrize("failure", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_in_the_middle_leaves_the_old_file_alone(old, failure):
    with pytest.raises(type(failure)), atomic_open(old) as file:
        file.write("half")
        raise failure
    assert_only_the_old_file(old)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_when_syncing_is_a_user_error(old, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError) as error, atomic_open(old) as file:
        file.write("new")
    assert str(error.value) == f"Cannot write {old}: {os.strerror(code)}. Free some space or choose another folder."
    assert_only_the_old_file(old)


def test_a_disk_that_is_full_when_writing_is_a_user_error(old, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fdopen", lambda descriptor, mode, encoding=None: FullDisk(descriptor, "w"))
    with pytest.raises(UserError, match="No space left on device"), atomic_open(old, "wb") as file:
        file.write(b"new")
    assert_only_the_old_file(old)


def test_output_that_nobody_reads_any_more_is_no_error_of_the_disk(old):
    with pytest.raises(BrokenPipeError), atomic_open(old) as file:
        file.write("half")
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    assert_only_the_old_file(old)


def test_a_rename_that_fails_leaves_no_temporary_file(old, monkeypatch):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(UserError, match="Permission denied"), atomic_open(old) as file:
        file.write("new")
    assert_only_the_old_file(old)


def test_a_folder_that_cannot_be_made_or_written_is_a_user_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*inner"), atomic_open(tmp_path / "file" / "inner"):
        pass

    # Root may write everywhere, so the refusal itself is simulated.
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(UserError, match=r"Cannot write .*Permission denied"), atomic_open(tmp_path / "other"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in any folder")
def test_an_unwritable_folder_is_a_user_error(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(UserError, match="Permission denied"), atomic_open(folder / "file"):
        pass
    assert os.listdir(folder) == []


def test_permissions_follow_the_umask(tmp_path):
    # A temporary file is private; the finished one must be readable like any other.
    before = os.umask(0o027)
    try:
        with atomic_open(tmp_path / "file") as file:
            file.write("x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_content_is_synced_before_the_name_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda descriptor: (events.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)), sync(descriptor))[1]
    )
    monkeypatch.setattr(files.os, "replace", lambda source, target: (events.append("rename"), replace(source, target))[1])
    with atomic_open(tmp_path / "file") as file:
        file.write("x")
    assert events == [False, "rename", True]


def test_json_round_trips(tmp_path):
    value = {"b": [1, None, 0.5], "a": "é😀"}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == value and "é😀" in text and text.endswith("}\n")


def test_json_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"a": object()})
    assert os.listdir(tmp_path) == []


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    # The first test vector of FIPS 180-2.
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_json({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    assert sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1}) != sha256_of_json({"a": 1, "b": 3})


def test_one_process_holds_a_folder(tmp_path):
    with locked_folder(tmp_path, "mine"), pytest.raises(UserError, match=r"^mine$"), locked_folder(tmp_path, "mine"):
        pytest.fail("the folder is held")
    with locked_folder(tmp_path, "mine") as descriptor:
        assert os.fstat(descriptor).st_ino == tmp_path.stat().st_ino


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_user_error(tmp_path, monkeypatch, code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    message = f"Cannot lock {tmp_path} against other processes: {os.strerror(code)}. Choose a folder on a file system that has locks."
    with pytest.raises(UserError) as error, locked_folder(tmp_path, "mine"):
        pytest.fail("nothing keeps others out")
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["out", ".", "out/a/b", ".out.partial/a", ".out.x1y2"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EEXIST])
def test_what_can_be_mended_about_a_path_is_a_user_error(tmp_path, monkeypatch, name, code):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^Cannot write out: {os.strerror(code)}. Free"), writing("out"):
        raise OSError(code, os.strerror(code), str(tmp_path / name))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        # No file that is left over, and no memory, is freed by another folder.
        (errno.EMFILE, None),
        (errno.EMFILE, "out/a"),
        (errno.ENOMEM, None),
        (errno.ENOENT, None),
        # Said of other files: a program that is not there, a temporary folder that is full.
        (errno.ENOENT, "bin/python"),
        (errno.ENOSPC, "tmp/a"),
        (errno.EACCES, "output"),
        (errno.EACCES, ".output.partial"),
        (None, None),
    ],
)
def test_other_failures_while_a_path_is_written_stay_what_they_are(tmp_path, code, name):
    failure = OSError("no number") if code is None else OSError(code, os.strerror(code), *([str(tmp_path / name)] if name else []))
    with pytest.raises(OSError) as caught, writing(tmp_path / "out"):
        raise failure
    assert caught.value is failure


def test_a_failure_of_something_else_leaves_the_old_file_alone(old):
    with pytest.raises(OSError, match="Too many open files"), atomic_open(old) as file:
        file.write("half")
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert_only_the_old_file(old)
