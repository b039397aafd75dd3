"""Documents become examples of a fixed length, in one of two styles.

"segments" follows the original's pre-training data: lines gather until they reach a target length, become
`[CLS] A [SEP] B [SEP]`, and never cross a document's end. Its rules are kept: 10% of the examples have no B, 5% aim at a shorter
random length, and A ends at the line that takes it over half of the target (that line goes to A every second time).
It departs from the original in two ways, so that no text is lost and A and B are each contiguous: what does not fit goes on
into the next example, where the original drops it, and once B has begun, A gets no later short line.

"blocks" cuts the stream of all documents of a split into contiguous examples, so that only the very last one is padded. As many as in the
other style are `[CLS] A [SEP] B [SEP]`, parted at a random token: a model that never sees a second segment does not learn its embedding,
and its generator's loss on pairs of texts was 0.25 to 1.25 nats above that on single ones.
"""

import bisect
import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from electra_keras.config import PackingConfig

# The original's shortest random target, in tokens.
MIN_TARGET_TOKENS = 5


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one split.

    Attributes:
        token_ids: (examples, sequence_length) of the layout's dtype, padded.
        lengths: int32 (examples, 2): tokens in A with [CLS] and its [SEP], and tokens in all.
    """

    token_ids: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """What an example looks like on disk.

    Attributes:
        sequence_length: tokens an example, special tokens and padding included.
        dtype: of the ids, "uint16" or "uint32".
        pad_id: fills an example after its last token.
        cls_id: first token of an example.
        sep_id: last token of a segment.
    """

    sequence_length: int
    dtype: str
    pad_id: int
    cls_id: int
    sep_id: int

    def examples(self, token_ids: np.ndarray, bounds: Sequence[tuple[int, int, int]]) -> Examples:
        """Cuts examples out of a stream of tokens.

        Args:
            token_ids: int (tokens,).
            bounds: start, middle and end of each example in the stream: A is [start, middle), B is [middle, end), empty when
                middle == end.
        """
        rows = np.full((len(bounds), self.sequence_length), self.pad_id, self.dtype)
        lengths = np.empty((len(bounds), 2), np.int32)
        for row, (start, middle, end) in enumerate(bounds):
            first = middle - start + 2
            rows[row, 0] = self.cls_id
            rows[row, 1 : first - 1] = token_ids[start:middle]
            rows[row, first - 1] = self.sep_id
            total = first
            if end > middle:
                total = first + end - middle + 1
                rows[row, first : total - 1] = token_ids[middle:end]
                rows[row, total - 1] = self.sep_id
            lengths[row] = first, total
        return Examples(rows, lengths)


def segment_bounds(line_tokens: Iterable[int], config: PackingConfig, seed: int) -> Iterator[tuple[int, int, int]]:
    """Chooses the examples of one document in the style "segments".

    Args:
        line_tokens: how many tokens each line of the document has.
        config: sequence_length and the two probabilities.
        seed: of the random choices; the document's content key, so that they depend on nothing else.

    Yields:
        start, middle, end in the document's tokens: A is [start, middle), B is [middle, end), empty when middle == end.
    """
    chance = random.Random(seed)
    ends = np.cumsum(np.fromiter(line_tokens, np.int64)).tolist()
    total = ends[-1] if ends else 0
    start, longest = 0, config.sequence_length
    while start < total:
        shorter = chance.random() < config.short_target_prob
        target = chance.randint(MIN_TARGET_TOKENS, longest) if shorter else longest
        # Lines gather until the target is reached; what the example before left over counts as the first of them.
        gathered = ends[min(bisect.bisect_left(ends, start + target), len(ends) - 1)]
        single = chance.random() < config.single_segment_prob
        middle = gathered if single else _end_of_first(ends, start, gathered, (target - 3) // 2, chance)
        # Special tokens take two places, or three when there is a B.
        middle = min(middle, start + longest - 2)
        end = max(middle, min(gathered, start + longest - 3))
        yield start, middle, end
        start = end


def _end_of_first(ends: list[int], start: int, gathered: int, target: int, chance: random.Random) -> int:
    """Returns where A ends: its first line, and further ones as long as A stays below the target."""
    line = bisect.bisect_right(ends, start)
    while ends[line] < gathered and ends[line] - start < target:
        if ends[line + 1] - start >= target and chance.random() >= 0.5:
            break
        line += 1
    return ends[line]


class BlockStream:
    """Cuts a stream of tokens into blocks, in the style "blocks"; keeps what does not fill one for later.

    Args:
        layout: of the examples.
        single_segment_prob: chance that a block has no B.
    """

    def __init__(self, layout: Layout, single_segment_prob: float):
        self._layout = layout
        self._single_segment_prob = single_segment_prob
        self._chance = random.Random(0)
        self._rest = np.empty(0, layout.dtype)

    def push(self, token_ids: np.ndarray) -> Examples:
        """Returns the blocks that the stream, with these tokens added, fills."""
        stream = np.concatenate([self._rest, token_ids.astype(self._layout.dtype, copy=False)])
        bounds = [*self._bounds(len(stream))]
        self._rest = stream[bounds[-1][-1] if bounds else 0 :].copy()
        return self._layout.examples(stream, bounds)

    def flush(self) -> Examples:
        """Returns the last block, which is padded, or none."""
        stream, self._rest = self._rest, self._rest[:0]
        return self._layout.examples(stream, [(0, len(stream), len(stream))] if len(stream) else [])

    def _bounds(self, num_tokens: int) -> Iterator[tuple[int, int, int]]:
        """Yields start, middle and end of the blocks that so many tokens fill, whatever kind of block comes last."""
        start, longest = 0, self._layout.sequence_length - 2
        while start + longest <= num_tokens:
            middle = end = start + longest
            if self._chance.random() >= self._single_segment_prob:
                # The second [SEP] takes a token's place.
                end -= 1
                middle = self._chance.randrange(start + 1, end)
            yield start, middle, end
            start = end
