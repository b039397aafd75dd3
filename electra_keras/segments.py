"""Where the scored tokens of a text can be drawn apart: no character twice, and no mark torn off its letter."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class ScoredSpan(Protocol):
    """A token as the vocabulary spells it, its place in the text, in code points, and its probability of being replaced."""

    token: str
    start: int
    end: int
    probability: float


class Segment(NamedTuple):
    """A stretch of the text that is shaded as one, with the tokens in it."""

    start: int
    end: int
    tokens: list[ScoredSpan]

    @property
    def probability(self) -> float:
        """The highest of its tokens' probabilities."""
        return max(token.probability for token in self.tokens)


def join_segments(text: str, tokens: Sequence[ScoredSpan]) -> list[Segment]:
    """Groups tokens into stretches that can be drawn apart.

    Tokens overlap when the tokenizer took a character apart, as it does with Korean syllables: drawing each would
    repeat the character. Combining marks and joiners that follow a token belong to its last character.

    Args:
        text: the original.
        tokens: in reading order.

    Returns:
        Segments in reading order that do not overlap.
    """
    segments: list[Segment] = []
    for token in tokens:
        if segments and token.start < segments[-1].end:
            last = segments.pop()
            segments.append(Segment(last.start, max(last.end, token.end), [*last.tokens, token]))
        else:
            segments.append(Segment(token.start, token.end, [token]))
    limits = [*(segment.start for segment in segments), len(text)][1:]
    return [
        Segment(segment.start, _include_marks(text, segment.end, limit), segment.tokens)
        for segment, limit in zip(segments, limits, strict=True)
    ]


def _include_marks(text: str, end: int, limit: int) -> int:
    while end < limit and unicodedata.category(text[end]) in ("Mn", "Me", "Mc", "Cf"):
        end += 1
    return end
