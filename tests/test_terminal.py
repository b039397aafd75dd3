import io
import re

import pytest

from electra_keras.detector import TokenScore
from electra_keras.terminal import legend, render, use_color


def tokens(*values):
    return [TokenScore(*value) for value in values]


def test_plain_text_marks_every_token_and_keeps_what_stands_between():
    scored = tokens(("the", 1, 4, 0.013), ("ch", 6, 8, 0.5), ("##ef", 8, 10, 0.994))
    assert render(" The  chef!\n", scored, color=False) == " The[0.01]  ch[0.50]ef[0.99]!\n"


def test_colour_shades_likely_tokens_and_changes_no_character():
    text = "The chef ate 😀."
    scored = tokens(("the", 0, 3, 0.05), ("chef", 4, 8, 0.2), ("ate", 9, 12, 0.95), ("😀", 13, 14, 1.0), (".", 14, 15, 0.0))
    shown = render(text, scored, color=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == text
    shades = dict(re.findall(r"48;5;(\d+)m(\w+)", shown)[::-1])
    assert "The" not in shades.values() and shades["224"] == "chef" and shades["196"] == "ate"
    assert shown.startswith("The ") and shown.endswith("\x1b[0m.")


@pytest.mark.parametrize(
    ("text", "scored", "shown"),
    [
        ("한국", tokens(("ᄒ", 0, 1, 0.2), ("##ᅡᆫ", 0, 1, 0.7), ("국", 1, 2, 0.1)), "한[0.70]국[0.10]"),
        ("cafe\u0301!", tokens(("cafe", 0, 4, 0.95)), "cafe\u0301[0.95]!"),
        ("नमस्ते जी", tokens(("नमसत", 0, 5, 0.95), ("जी", 7, 9, 0.2)), "नमस्ते[0.95] जी[0.20]"),
    ],
)
def test_no_character_is_shown_twice_or_torn_apart(text, scored, shown):
    assert render(text, scored, color=False) == shown
    assert re.sub(r"\x1b\[[0-9;]*m", "", render(text, scored, color=True)) == text
    # A mark behind an escape sequence would sit on nothing.
    assert not re.search("m[\u0301\u0947]", render(text, scored, color=True))


def test_a_text_without_tokens_is_shown_as_it_is():
    assert render("", [], color=True) == "" and render("  ", [], color=False) == "  "


def test_control_characters_are_written_out():
    # An escape sequence in a scored file must not reach the terminal.
    scored = tokens(("a", 4, 5, 0.25), ("b\x07", 6, 8, 0.5))
    assert render("\x1b[2Ja\tb\x07\x9b", scored, color=False) == "\\x1b[2Ja[0.25]\tb\\x07[0.50]\\x9b"


def test_offsets_are_code_points():
    assert render("😀é x", tokens(("x", 3, 4, 0.5)), color=False) == "😀é x[0.50]"


def test_the_legend_shows_every_shade():
    assert re.sub(r"\x1b\[[0-9;]*m", "", legend()).split() == ["P(replaced)", "0.1", "0.3", "0.5", "0.7", "0.9"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "stream", "expected"),
    [
        ({}, io.StringIO(), False),
        ({}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"FORCE_COLOR": "0"}, io.StringIO(), False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, io.StringIO(), False),
    ],
)
def test_colour_goes_to_terminals_unless_said_otherwise(monkeypatch, environment, stream, expected):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert use_color(stream) is expected
