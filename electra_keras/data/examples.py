"""What masking, batching and statistics need to know about prepared examples, and how a few are chosen among many."""

from typing import Protocol

import numpy as np


class ExampleSource(Protocol):
    """Examples of one fixed length, read by number; `electra_keras.data.prepare` offers them from disk."""

    num_examples: int

    def token_ids(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, sequence_length), padded with [PAD], for int64 (n,) example numbers."""

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, 2): tokens of segment A with [CLS] and its [SEP], and tokens altogether."""


def evenly_spread(num_examples: int, count: int) -> np.ndarray:
    """Chooses examples at even distances, so that a part stands for the whole and is the same every time.

    The first ones would all come from the first documents.

    Args:
        num_examples: how many there are.
        count: how many are wanted, at most.

    Returns:
        int64 (min(count, num_examples),), ascending, each number once.
    """
    count = min(count, num_examples)
    return np.arange(count, dtype=np.int64) * num_examples // max(count, 1)
