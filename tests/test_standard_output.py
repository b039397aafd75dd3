import contextlib
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


@pytest.mark.parametrize("errors", ["unread too", "closed"])
def test_a_command_that_nobody_hears_goes_on(monkeypatch, unread, errors):
    monkeypatch.setattr(sys, "stderr", unread if errors == "unread too" else None)
    with contextlib.redirect_stdout(unread), lasting_output():
        Console(file=sys.stdout).print("from rich")
        print("from print")


def test_closed_standard_output_stays_so(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with lasting_output():
        print("to nobody")
        assert sys.stdout is None
