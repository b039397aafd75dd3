"""Detections as text for a terminal: tokens shaded by their probability, or marked in plain text.

Takes data, no model: a text and its scored spans.
"""

import os
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from electra_keras.segments import ScoredSpan, join_segments

# Backgrounds of the 256-colour palette, from pale to strong red, with the probability each begins at.
_SHADES = ((0.9, 196), (0.7, 203), (0.5, 210), (0.3, 217), (0.1, 224))
_BLACK_ON = "\x1b[38;5;16;48;5;{}m"
_RESET = "\x1b[0m"


def use_color(stream: TextIO) -> bool:
    """Tells whether to colour: NO_COLOR forbids it, FORCE_COLOR demands it, else a terminal gets it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") != "0":
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def render(text: str, tokens: Sequence[ScoredSpan], *, color: bool) -> str:
    """Returns the text with every token shaded (color) or followed by its probability, as in `token[0.93]`.

    Tokens that share a character are shown once, with the highest of their probabilities. What stands between tokens is kept;
    control characters are written out, since in a terminal they would act.
    """
    pieces = []
    position = 0
    for segment in join_segments(text, tokens):
        pieces.append(_visible(text[position : segment.start]))
        word = _visible(text[segment.start : segment.end])
        pieces.append(_shaded(word, segment.probability) if color else f"{word}[{segment.probability:.2f}]")
        position = segment.end
    pieces.append(_visible(text[position:]))
    return "".join(pieces)


def legend() -> str:
    """Returns one line that shows each shade with the probability it begins at."""
    return "P(replaced) " + " ".join(_shaded(f" {start:.1f} ", start) for start, _ in reversed(_SHADES))


def _shaded(word: str, probability: float) -> str:
    shade = next((color for start, color in _SHADES if probability >= start), None)
    return word if shade is None else f"{_BLACK_ON.format(shade)}{word}{_RESET}"


def _visible(text: str) -> str:
    return "".join(
        character if character in "\t\n" or unicodedata.category(character) != "Cc" else f"\\x{ord(character):02x}" for character in text
    )
