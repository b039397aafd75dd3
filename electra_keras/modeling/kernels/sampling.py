"""Drawing tokens from logits, exactly, with one random number a draw.

Gumbel-max needs a random number for every vocabulary entry: 125 ms for 608 x 8,192 logits on two CPU cores, of which 75 ms
are random numbers, against 16 ms for the two-level inverse CDF here, softmax included.
"""

import keras
from keras import ops

BLOCK_SIZE = 128
"""Vocabulary entries summed to one block: near the square root of common vocabulary sizes, where the two levels cost least."""


def draw_tokens(logits, uniforms, temperature=1.0, block_size=BLOCK_SIZE):
    """Draws one token for every position from softmax(logits / temperature), by inverting its cumulative distribution.

    No gradient passes, as replaced-token detection requires (Clark et al. 2020, section 2).
    The cumulative sum runs over block sums first and then inside the block that was hit, which costs a fraction of one over the
    whole vocabulary and rounds less. Never returns a token of probability 0, whatever the rounding.

    Args:
        logits: float (..., vocab), before softmax.
        uniforms: float32 (...), in [0, 1).
        temperature: divides the logits; > 0.
        block_size: vocabulary entries to a block.

    Returns:
        int32 (...), the smallest id whose cumulative probability lies above the uniform number, to float32 rounding.
    """
    vocab_size = logits.shape[-1]
    weights = _unnormalized_probabilities(logits, temperature)
    block_sums = _block_sums(weights, block_size)
    block_ends = ops.cumsum(block_sums, axis=-1)
    target = ops.reshape(uniforms, (-1, 1)) * block_ends[:, -1:]
    block = _first_beyond(block_ends, block_sums, target)

    start = ops.take_along_axis(block_ends - block_sums, block, axis=1)
    entries = block * block_size + ops.arange(block_size, dtype="int32")
    inside = ops.take_along_axis(weights, ops.minimum(entries, vocab_size - 1), axis=1)
    inside = ops.where(entries < vocab_size, inside, 0.0)
    token = _first_beyond(ops.cumsum(inside, axis=-1), inside, target - start)
    return ops.reshape(block * block_size + token, ops.shape(uniforms))


def _block_sums(weights, block_size):
    """Returns float32 (rows, blocks); the last block is shorter where the size does not divide the vocabulary, which padding would copy."""
    whole = weights.shape[-1] // block_size * block_size
    parts = []
    if whole:
        parts.append(ops.sum(ops.reshape(weights[:, :whole], (-1, whole // block_size, block_size)), axis=-1))
    if whole < weights.shape[-1]:
        parts.append(ops.sum(weights[:, whole:], axis=-1, keepdims=True))
    return ops.concatenate(parts, axis=-1)


def _unnormalized_probabilities(logits, temperature):
    """Returns float32 (rows, vocab), computed in the shape in which the loss computes them, so that a compiled step does so once."""
    vocab_size = logits.shape[-1]
    logits = ops.cast(ops.stop_gradient(logits), "float32")
    if temperature != 1.0:
        logits = logits / temperature
    if keras.backend.backend() == "torch":
        import torch

        # One pass; written out it is four over arrays of their own. That the sum is 1 changes nothing.
        return torch.softmax(logits, dim=-1).reshape(-1, vocab_size)
    logits = ops.reshape(logits, (-1, vocab_size))
    return ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))


def _first_beyond(ends, weights, target):
    """Returns int32 (rows, 1): the first index of positive weight whose end lies beyond the target.

    Where rounding leaves no end beyond the target, it is the last index of positive weight; where a NaN leaves neither, it is 0.

    Args:
        ends: float32 (rows, entries), cumulative sums of the weights.
        weights: float32 (rows, entries), at least 0.
        target: float32 (rows, 1).
    """
    entries = weights.shape[-1]
    index = ops.arange(entries, dtype="int32")
    positive = weights > 0
    first = ops.min(ops.where(ops.logical_and(positive, ends > target), index, entries), axis=-1, keepdims=True)
    last = ops.max(ops.where(positive, index, 0), axis=-1, keepdims=True)
    return ops.minimum(first, last)
