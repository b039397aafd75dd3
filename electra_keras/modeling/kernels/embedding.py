"""The sum of a token's embeddings, with a form of its gradient for JAX on CPUs."""

from keras import ops

from electra_keras.modeling.kernels.matmul import TILES, column_sums, wide_product
from electra_keras.modeling.kernels.xla import custom_gradient, jax_compiles_for_cpu


def add_positions_and_segments(words, positions, segments, segment_ids):
    """Returns the sum of every token's embeddings of word, position and segment.

    Args:
        words: float (batch, length, features).
        positions: float (length, features), of words' dtype.
        segments: float (2, features), of words' dtype.
        segment_ids: int (batch, length); all but 0 are the second segment.

    Returns:
        float (batch, length, features), of words' dtype.
    """
    if jax_compiles_for_cpu():
        return custom_gradient(_forward, _backward)(words, positions, segments, segment_ids)
    return _forward(words, positions, segments, segment_ids)[0]


def _forward(words, positions, segments, segment_ids):
    # Two rows chosen with `where` have a gradient that is a sum; a lookup's is a scatter of every token into two rows.
    in_second = ops.expand_dims(ops.not_equal(segment_ids, 0), axis=-1)
    return words + positions + ops.where(in_second, segments[1], segments[0]), segment_ids


def _backward(segment_ids, gradient):
    """Sums over examples and over tokens by products: XLA on CPU adds up windows of 32 numbers, one thread and three passes for each."""
    batch_size, length, features = gradient.shape
    positions = column_sums(ops.reshape(gradient, (batch_size, length * features)), gradient.dtype)
    in_second = ops.reshape(ops.not_equal(segment_ids, 0), (1, batch_size * length))
    is_own = ops.equal(ops.expand_dims(ops.arange(TILES[-1]), axis=1), ops.cast(in_second, "int32"))
    segments = wide_product(ops.cast(is_own, gradient.dtype), ops.reshape(gradient, (batch_size * length, features)), -2)[:2]
    return gradient, ops.reshape(positions, (length, features)), ops.cast(segments, gradient.dtype), None
