"""Texts longer than the model are scored in overlapping windows; nothing is cut off."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Window:
    """A run of tokens that passes through the model together, and the part of it whose scores are used.

    All four are token numbers in the text; stops are exclusive.
    """

    start: int
    stop: int
    score_start: int
    score_stop: int


def split_windows(num_tokens: int, window: int, overlap: int) -> list[Window]:
    """Covers a text with windows, and gives every token to the one that shows the model most of its surroundings.

    The surroundings of a token in a window are the tokens on its poorer side; an edge that is the text's own takes nothing away
    from them. All windows are full, unless the text is shorter than one, and lie at even distances: the last is not a rest.

    Args:
        num_tokens: tokens of the text, without special tokens; >= 0.
        window: tokens the model takes at once, without special tokens; >= 1.
        overlap: tokens that neighbouring windows share, at least; in [0, window).

    Returns:
        Windows from left to right; their scored parts follow one another without gap from 0 to num_tokens. None for an empty text.

    Raises:
        ValueError: window or overlap is out of range.
    """
    if window < 1 or not 0 <= overlap < window:
        raise ValueError(f"window is {window} and overlap {overlap}; window must be at least 1 and overlap in [0, window).")
    if num_tokens == 0:
        return []
    starts = _starts(num_tokens, window, overlap)
    stops = [min(start + window, num_tokens) for start in starts]
    # Windows of one length: of two that overlap, each is the better one on its own side of the overlap's middle.
    middles = [(start + stop + 1) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    return [Window(*bounds) for bounds in zip(starts, stops, [0, *middles], [*middles, num_tokens], strict=True)]


def _starts(num_tokens: int, window: int, overlap: int) -> list[int]:
    room = max(0, num_tokens - window)
    gaps = -(-room // (window - overlap))
    return [index * room // max(gaps, 1) for index in range(gaps + 1)]
