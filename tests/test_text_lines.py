import io
import os
import sys
import threading

import pytest

from electra_keras import text_lines
from electra_keras.errors import UserError
from electra_keras.text_lines import check_text_file, line_batches, typed_lines


def lines_of(content, name="input"):
    return [line for batch in line_batches(io.BytesIO(content), name) for line in batch]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"\n", [""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        ("\ufeffé\n".encode(), ["é"]),
        # Unicode's other line ends end no line here, so that lines stay those that every other tool counts.
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_lines_lose_their_ends_and_nothing_else(content, expected):
    assert lines_of(content) == expected


def test_lines_across_reads_are_put_together(monkeypatch):
    monkeypatch.setattr(text_lines, "_BLOCK_BYTES", 3)
    assert lines_of("längere Zeile\n\nü\nlast".encode()) == ["längere Zeile", "", "ü", "last"]


def test_a_slow_writer_gets_each_line_at_once():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as writer:
        batches = line_batches(stream, "pipe")
        seen = []
        for text in (b"one\n", b"two\nthree\n"):
            writer.write(text)
            answer = threading.Thread(target=lambda: seen.append(next(batches)), daemon=True)
            answer.start()
            answer.join(timeout=10)
            assert not answer.is_alive(), "waits for more input than a line"
        assert seen == [["one"], ["two", "three"]]


def test_bytes_that_are_not_utf8_are_named_by_line():
    with pytest.raises(UserError, match=r"input, line 2 is not UTF-8 text \(byte 3\)"):
        lines_of(b"fine\nab\xff\n")


def test_no_input_at_all_is_refused():
    with pytest.raises(UserError, match="input is empty"):
        lines_of(b"")


def test_files_are_checked_before_use(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"good\nlines")
    check_text_file(path)
    path.write_bytes(b"good\n\xff")
    with pytest.raises(UserError, match=r"text.txt, line 2 is not UTF-8"):
        check_text_file(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"text.txt is empty"):
        check_text_file(path)
    with pytest.raises(UserError, match="There is no file"):
        check_text_file(tmp_path / "absent.txt")
    with pytest.raises(UserError, match=r"Cannot read .*Is a directory"):
        check_text_file(tmp_path)


def test_a_check_takes_nothing_out_of_a_pipe():
    reading, writing = os.pipe()
    os.write(writing, b"one\n")
    os.close(writing)
    check_text_file(f"/dev/fd/{reading}")
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"one\n"


def test_typed_lines_come_from_standard_input(monkeypatch, capsys):
    typed = io.TextIOWrapper(io.BytesIO(b"a\nb\n"))
    monkeypatch.setattr(sys, "stdin", typed)
    assert list(typed_lines()) == [["a", "b"]]
    assert capsys.readouterr().err == ""
