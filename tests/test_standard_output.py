import contextlib
import io
import os
import sys

import pytest
from rich.console import Console

from electra_keras.standard_output import lasting_output


@pytest.fixture
def unread():
    """A line-buffered stream into a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1, encoding="utf-8") as stream:
        yield stream


def test_lines_that_nobody_reads_go_to_standard_error(capfd, unread):
    with contextlib.redirect_stdout(unread):
        with lasting_output():
            print("from print")
            Console(file=sys.stdout).print("from rich")
            print("the end")
        assert sys.stdout is unread
    said, *lines = capfd.readouterr().err.splitlines()
    assert said == "electra-keras: nobody reads standard output any more; the rest is shown here."
    assert lines == ["from print", "from rich", "the end"]


def test_without_a_buffer_no_line_is_lost(capfd):
    reading, writing = os.pipe()
    os.close(reading)
    # As under PYTHONUNBUFFERED.
    with (
        io.TextIOWrapper(open(writing, "wb", buffering=0), write_through=True) as stream,
        contextlib.redirect_stdout(stream),
        lasting_output(),
    ):
        print("saved", flush=True)
        print("the end")
    assert capfd.readouterr().err.splitlines()[1:] == ["saved", "the end"]


def test_a_terminal_that_has_been_closed_is_a_reader_that_has_left(capfd):
    ours, theirs = os.openpty()
    os.close(ours)
    with open(theirs, "w", buffering=1) as stream, contextlib.redirect_stdout(stream), lasting_output():
        print("step 2")
    assert capfd.readouterr().err.splitlines()[1:] == ["step 2"]


def test_other_failures_are_not_taken_for_a_reader_that_has_left():
    with open("/dev/full", "w", buffering=1) as full:
        with contextlib.redirect_stdout(full), lasting_output(), pytest.raises(OSError, match="No space left"):
            print("to a file on a full disk")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize("errors", ["unread too", "closed", "without descriptor"])
def test_a_command_that_nobody_hears_goes_on(monkeypatch, unread, errors):
    monkeypatch.setattr(sys, "stderr", {"unread too": unread, "closed": None, "without descriptor": io.StringIO()}[errors])
    with contextlib.redirect_stdout(unread), lasting_output():
        Console(file=sys.stdout).print("from rich")
        print("from print")
    assert os.path.samestat(os.fstat(unread.fileno()), os.stat(os.devnull))


def test_closed_standard_output_stays_so(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with lasting_output():
        print("to nobody")
        assert sys.stdout is None
