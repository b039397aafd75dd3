"""Texts longer than the model are scored in overlapping windows, nothing is cut off; windows of like length pass together."""

import dataclasses
from collections.abc import Iterator, Sequence

SMALLEST_LENGTH = 16


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


@dataclasses.dataclass(frozen=True)
class PaddedBatch:
    """Windows that pass through the model together, padded to one shape.

    Attributes:
        members: the windows' numbers.
        num_rows: rows of the batch; those beyond the members only fill it up.
        length: tokens that every row is padded to, special tokens included.
    """

    members: list[int]
    num_rows: int
    length: int


def batches_of_few_shapes(lengths: Sequence[int], longest: int, batch_tokens: int) -> Iterator[PaddedBatch]:
    """Puts windows of like length together, in few shapes, for JAX and TensorFlow, which compile once a shape.

    Windows whose next power of two is the same are sorted by length. Full batches are padded to that power or to three quarters of it: they
    are many where there are any, so that the tighter shape soon pays for its compilation. What is left over goes in batches of a few rows,
    at most a quarter of which are filler, always padded to the power of two.

    Args:
        lengths: tokens of every window, special tokens included; in [1, longest].
        longest: tokens the model takes at once, special tokens included.
        batch_tokens: tokens of a full batch at most, padding included, unless one window alone has more; >= 1.

    Yields:
        Batches that hold every window once.
    """
    alike: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        alike.setdefault(_power_of_two(length, longest), []).append(number)
    for padded, members in sorted(alike.items()):
        members.sort(key=lengths.__getitem__)
        full = max(1, batch_tokens // padded)
        start = 0
        while start < len(members):
            rows = _num_rows(len(members) - start, full)
            together = members[start : start + rows]
            tight = padded * 3 // 4
            fits = rows == full and padded > SMALLEST_LENGTH and lengths[together[-1]] <= tight
            yield PaddedBatch(together, rows, tight if fits else padded)
            start += rows


def tight_batches(lengths: Sequence[int], longest: int, batch_tokens: int) -> Iterator[PaddedBatch]:
    """Puts windows of like length together and pads them to the longest of them, where any shape will do.

    A window that stays alone is padded to a power of two, so that one text after the other makes few shapes.

    Args:
        lengths: as for `batches_of_few_shapes`.
        longest: as for `batches_of_few_shapes`.
        batch_tokens: as for `batches_of_few_shapes`.

    Yields:
        Batches that hold every window once, without filler.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= batch_tokens:
            stop += 1
        together, longest_member = order[start:stop], lengths[order[stop - 1]]
        yield PaddedBatch(together, len(together), longest_member if len(together) > 1 else _power_of_two(longest_member, longest))
        start = stop


def _power_of_two(length: int, longest: int) -> int:
    padded = SMALLEST_LENGTH
    while padded < length:
        padded *= 2
    return min(padded, longest)


def _num_rows(remaining: int, full: int) -> int:
    """Returns the largest of `full` and the powers of four below it that `remaining` windows fill to three quarters."""
    sizes = [full]
    power = 1
    while power < full:
        sizes.append(power)
        power *= 4
    return max(size for size in sizes if 4 * remaining >= 3 * size or size == 1)
