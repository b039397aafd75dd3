"""Attention for XLA on CPUs, with gradients of its own, in products that XLA hands to its fast library."""

import math

from keras import ops

from electra_keras.modeling.kernels.matmul import TILES, transpose, wide_product
from electra_keras.modeling.kernels.xla import custom_gradient, jax_compiles_for_cpu

CACHED_SCORES = 1 << 19
"""Scores that are computed at a time where that pays: 2 MB of float32, a core's second cache."""
MAX_PARTS = 8
"""In how many parts at most, for XLA compiles each by itself: 0.3 s a layer, where more than these gain hardly anything (NOTES.md)."""


def attend_by_head(query, key, value, bias, drop):
    """Attention for XLA on CPUs: products of float32 or bfloat16 by its fast library, softmax and all sums in float32.

    XLA's own gradients leave that library, and einsum does for two batch dimensions, in float32 for products that one thread computes.
    Under JAX a few heads at a time, so that what lies between their products stays in the cache. Forward and backward of (4, 512, 4, 64) in
    bfloat16 on two cores: 22 ms with all heads at once, 13 by two heads; of (16, 128, 4, 64) 5.4, and 5.0 by 32.

    Args:
        query: float32 or bfloat16 (batch, queries, heads, head_dim).
        key: of query's dtype (batch, length, heads, head_dim).
        value: as key.
        bias: float32 (batch, length), added to the scores of a token as key.
        drop: dropout of the weights, (batch, heads, queries, length), or None.

    Returns:
        (batch, queries, heads, head_dim), of query's dtype.
    """
    batch_size, queries, num_heads, _ = ops.shape(query)
    length = ops.shape(key)[1]
    arguments = [_by_head(part) for part in (query, key, value)]
    arguments.append(ops.repeat(ops.cast(bias, value.dtype)[:, :, None], num_heads, axis=0))
    if drop is not None:
        factor = drop(ops.ones((batch_size, num_heads, queries, length), dtype="float32"))
        arguments.append(ops.reshape(factor, (batch_size * num_heads, queries, length)))
    attend_heads = custom_gradient(_heads_forward, _heads_backward)
    parts = _num_parts(batch_size * num_heads, queries, length)
    mixed = [attend_heads(*part) for part in zip(*(ops.split(argument, parts) for argument in arguments), strict=True)]
    return _by_token(ops.concatenate(mixed), num_heads)


def _num_parts(heads, queries, length):
    """Returns in how many equal parts to take some heads, for CACHED_SCORES if MAX_PARTS are enough for that.

    1 where sizes are not known yet, or where it does not pay.
    """
    if not jax_compiles_for_cpu() or not all(isinstance(size, int) for size in (heads, queries, length)):
        return 1
    possible = [parts for parts in range(1, MAX_PARTS + 1) if heads % parts == 0]
    fitting = (parts for parts in possible if heads // parts * queries * length <= CACHED_SCORES)
    return next(fitting, possible[-1])


def _heads_forward(query, key, value, bias, *factor):
    """Returns the mixed values, and what the gradient needs.

    Args:
        query: float32 or bfloat16 (heads, queries, head_dim), those of all examples.
        key: of query's dtype (heads, length, head_dim).
        value: as key.
        bias: of query's dtype (heads, length, 1), added to the scores.
        factor: float32 (heads, queries, length), times the weights; or nothing.
    """
    exact, rest = _parted_scale(query)
    query = query * exact
    scores = _scores(query, key, bias) * rest
    weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    both = [ops.cast(part, query.dtype) for part in (weights, *(weights * part for part in factor))]
    totals = _row_sums(weights, both[0])
    # The division follows the second product, where there are head_dim numbers a query to divide instead of length.
    mixed = wide_product(both[-1], value, -2) / totals
    return ops.cast(mixed, query.dtype), (query, key, value, both, totals, mixed)


def _heads_backward(kept, gradient):
    query, key, value, both, totals, mixed = kept
    weights, used = both[0], both[-1]
    exact, rest = _parted_scale(query)
    gradient = ops.cast(gradient, "float32") / totals
    # The softmax's own gradient takes from every weight's the mean over its row.
    mean = ops.sum(gradient * mixed, axis=-1, keepdims=True)
    rounded = ops.cast(gradient, query.dtype)
    scores = ops.cast(used, "float32") * wide_product(rounded, value, -1) - ops.cast(weights, "float32") * mean
    scores = ops.cast(scores * rest, query.dtype)
    by_query = wide_product(scores, key, -2) * exact
    gradients = ops.cast(by_query, query.dtype), _summed_over_queries(scores, query), _summed_over_queries(used, rounded)
    # Bias and factor depend on no weight.
    return *gradients, *(None for _ in both)


def _parted_scale(query):
    """Returns a power of two, by which 16 bits are multiplied without rounding, and what is left of the scores' scale: 1 for 64 dimensions.

    XLA drops a multiplication by 1, and writes any other factor of the scores out in their size.
    """
    scale = 1.0 / math.sqrt(query.shape[-1])
    exact = 2.0 ** math.ceil(math.log2(scale))
    return exact, scale / exact


def _scores(query, key, bias):
    """Returns float32 (heads, queries, length), query times key plus bias.

    Under JAX the product adds the bias too, for XLA would write it out for every query.
    """
    if not jax_compiles_for_cpu():
        return wide_product(query, key, -1) + ops.cast(ops.transpose(bias, (0, 2, 1)), "float32")
    with_ones = ops.pad(query, ((0, 0), (0, 0), (0, TILES[-1])), constant_values=1)
    with_bias = ops.concatenate([key, ops.pad(bias, ((0, 0), (0, 0), (0, TILES[-1] - 1)))], axis=-1)
    return wide_product(with_ones, with_bias, -1)


def _row_sums(weights, rounded):
    """Returns float32 (heads, queries, 1), the sums of weights, of which `rounded` is the form for products.

    Under JAX as products with ones: then nothing needs the weights in float32, and they are never written so.
    """
    if not jax_compiles_for_cpu():
        return ops.sum(weights, axis=-1, keepdims=True)
    heads, _, length = rounded.shape
    return wide_product(rounded, ops.ones((heads, TILES[-1], length), dtype=rounded.dtype), -1)[..., :1]


def _summed_over_queries(left, right):
    """Returns left^T right, (heads, length, head_dim), of (heads, queries, length) and the smaller (heads, queries, head_dim).

    The smaller matrices are transposed: for 512 queries and 64 dimensions in a quarter of the time.
    """
    return transpose(ops.cast(wide_product(transpose(right), left, -2), right.dtype))


def _by_head(part):
    """Returns (batch * heads, length, head_dim) for (batch, length, heads, head_dim)."""
    batch_size, length, num_heads, head_dim = ops.shape(part)
    return ops.reshape(ops.transpose(part, (0, 2, 1, 3)), (batch_size * num_heads, length, head_dim))


def _by_token(part, num_heads):
    """Returns (batch, length, heads, head_dim) for (batch * heads, length, head_dim)."""
    _, length, head_dim = ops.shape(part)
    return ops.transpose(ops.reshape(part, (-1, num_heads, length, head_dim)), (0, 2, 1, 3))
