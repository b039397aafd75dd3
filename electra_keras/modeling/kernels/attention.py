"""Scaled dot-product attention over sequences with padding."""

import math
from collections.abc import Callable

import keras
from keras import ops

from electra_keras.modeling.kernels.matmul import TILES, transpose, wide_product
from electra_keras.modeling.kernels.xla import compiles_for_cpu, custom_gradient, jax_compiles_for_cpu

MASKED_SCORE = -1e9
"""Added to the score of padding: large enough that its weight is 0, finite so that a row of padding alone gives no NaN."""

CACHED_SCORES = 1 << 19
"""Scores that are computed at a time where that pays: 2 MB of float32, a core's second cache."""

LONG_SEQUENCE = 256
"""Tokens from which TensorFlow's XLA gains in float32 by products of one batch dimension.

What keeps it from folding transpositions into them has a price. Whole steps without dropout were 0.95 and 0.98 times as fast at length 128
(bench_tiny, small), 1.14 at 256 (bench_tiny) and 1.09 at 512 (small).
"""


def attend(query, key, value, padding_mask, drop: Callable | None = None):
    """Mixes the values of every sequence by the softmax of its scaled query-key products, by the backend's fastest form.

    A sequence may have fewer queries than tokens, where the others' results are not wanted.

    PyTorch's fused kernel, and cuDNN's through JAX on an accelerator; XLA on CPU and TensorFlow have none, and there the products are
    written out: under JAX, in bfloat16 and over long sequences with gradients of their own.

    Args:
        query: float (batch, queries, heads, head_dim).
        key: float (batch, length, heads, head_dim).
        value: as key.
        padding_mask: bool or int (batch, length), 1 = real; padding is attended to by no one.
        drop: dropout of the weights, as for `attend_portable`.

    Returns:
        float (batch, queries, heads, head_dim), of value's dtype. The softmax is computed in float32.
    """
    if compiles_for_cpu():
        is_bfloat16 = keras.backend.standardize_dtype(value.dtype) == "bfloat16"
        form = _attend_by_head if is_bfloat16 or _gains_by_head_in_float32(key.shape[1]) else attend_portable
        # XLA on CPU has no fast product of float16.
        parts = [part if is_bfloat16 else ops.cast(part, "float32") for part in (query, key, value)]
        return ops.cast(form(*parts, padding_mask, drop), value.dtype)
    match keras.backend.backend():
        case "jax" if drop is None:
            return _attend_fused(query, key, value, padding_mask)
        case "torch":
            return _attend_torch(query, key, value, padding_mask, drop)
        case _:
            return attend_portable(query, key, value, padding_mask, drop)


def _gains_by_head_in_float32(length):
    return jax_compiles_for_cpu() or (length is not None and length >= LONG_SEQUENCE)


def split_in_three(stream):
    """Returns query, key and value, float (rows, features) each, of (rows, 3 * features), by the backend's fastest form.

    The gradient of a split is one concatenation, where that of three slices is three padded copies and their sum. JAX' XLA on CPU
    concatenates bfloat16 as float32, in four times the time that the same bits take as integers.
    """
    if jax_compiles_for_cpu() and keras.backend.standardize_dtype(stream.dtype) == "bfloat16":
        return custom_gradient(_split_forward, _split_backward)(stream)
    return ops.split(stream, 3, axis=-1)


def _split_forward(stream):
    return tuple(ops.split(stream, 3, axis=-1)), ()


def _split_backward(kept, *gradients):
    joined = ops.concatenate([ops.view(gradient, "uint16") for gradient in gradients], axis=-1)
    return (ops.view(joined, "bfloat16"),)


def attend_portable(query, key, value, padding_mask, drop: Callable | None = None):
    """Attention written out in keras.ops, the only form that can drop attention weights.

    In float32 the softmax's division follows the second product, where there are head_dim numbers a query to divide instead of
    length. In 16 bits it comes before, for a sum of undivided weights times values can leave float16's range.

    Args:
        query: float (batch, queries, heads, head_dim).
        key: float (batch, length, heads, head_dim).
        value: as key.
        padding_mask: bool or int (batch, length), 1 = real.
        drop: dropout of the weights, (batch, heads, queries, length), which keeps their expected sum.

    Returns:
        float (batch, queries, heads, head_dim), of value's dtype.
    """
    scores = ops.cast(ops.einsum("bqnd,bknd->bnqk", query * (1.0 / math.sqrt(query.shape[-1])), key), "float32")
    scores = scores + _padding_bias(padding_mask)[:, None, None, :]
    weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
    totals = ops.sum(weights, axis=-1, keepdims=True)
    divide_first = keras.backend.standardize_dtype(value.dtype) != "float32"
    if divide_first:
        weights = ops.cast(weights / totals, value.dtype)
    if drop is not None:
        weights = drop(weights)
    mixed = ops.einsum("bnqk,bknd->bqnd", weights, value)
    return mixed if divide_first else mixed / ops.transpose(totals, (0, 2, 1, 3))


def _padding_bias(padding_mask):
    """Returns float32 (batch, length), what is added to the scores of a token as key: MASKED_SCORE for padding, and 0."""
    return (1.0 - ops.cast(padding_mask, "float32")) * MASKED_SCORE


def _attend_by_head(query, key, value, padding_mask, drop):
    """Attention for XLA on CPUs: products of float32 or bfloat16 by its fast library, softmax and all sums in float32.

    XLA's own gradients leave that library, and einsum does for two batch dimensions, in float32 for products that one thread computes.
    Under JAX a few heads at a time, so that what lies between their products stays in the cache. Forward and backward of (4, 512, 4, 64) in
    bfloat16 on two cores: 22 ms with all heads at once, 13 by two heads; of (16, 128, 4, 64) 5.4, and 5.0 by 32.
    """
    batch_size, queries, num_heads, _ = ops.shape(query)
    length = ops.shape(key)[1]
    arguments = [_by_head(part) for part in (query, key, value)]
    arguments.append(ops.repeat(ops.cast(_padding_bias(padding_mask), value.dtype)[:, :, None], num_heads, axis=0))
    if drop is not None:
        factor = drop(ops.ones((batch_size, num_heads, queries, length), dtype="float32"))
        arguments.append(ops.reshape(factor, (batch_size * num_heads, queries, length)))
    attend_heads = custom_gradient(_heads_forward, _heads_backward)
    parts = _num_parts(batch_size * num_heads, queries, length)
    mixed = [attend_heads(*part) for part in zip(*(ops.split(argument, parts) for argument in arguments), strict=True)]
    return _by_token(ops.concatenate(mixed), num_heads)


def _num_parts(heads, queries, length):
    """Returns in how many equal parts to take some heads for CACHED_SCORES; 1 where sizes are not known yet, or where it does not pay."""
    if not jax_compiles_for_cpu() or not all(isinstance(size, int) for size in (heads, queries, length)):
        return 1
    fitting = max(CACHED_SCORES // (queries * length), 1)
    return next(parts for parts in range(1, heads + 1) if heads % parts == 0 and heads // parts <= fitting)


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

    The smaller matrices are transposed: for 512 queries and 64 dimensions in a quarter of the time. TensorFlow's XLA, which computes such
    products of bfloat16 less well, loses by it.
    """
    if keras.backend.standardize_dtype(left.dtype) == "bfloat16" and not jax_compiles_for_cpu():
        return ops.cast(wide_product(transpose(left), right, -2), right.dtype)
    return transpose(ops.cast(wide_product(transpose(right), left, -2), right.dtype))


def _by_head(part):
    """Returns (batch * heads, length, head_dim) for (batch, length, heads, head_dim)."""
    batch_size, length, num_heads, head_dim = ops.shape(part)
    return ops.reshape(ops.transpose(part, (0, 2, 1, 3)), (batch_size * num_heads, length, head_dim))


def _by_token(part, num_heads):
    """Returns (batch, length, heads, head_dim) for (batch * heads, length, head_dim)."""
    _, length, head_dim = ops.shape(part)
    return ops.transpose(ops.reshape(part, (-1, num_heads, length, head_dim)), (0, 2, 1, 3))


def _attend_fused(query, key, value, padding_mask):
    mask = ops.cast(padding_mask, "bool")[:, None, None, :]
    return ops.dot_product_attention(query, key, value, mask=mask)


def _attend_torch(query, key, value, padding_mask, drop):
    import torch

    # The fused kernel rounds 16-bit operands more slowly on CPU than the plain products take (forward and backward of (32, 128, 2, 64) in
    # bfloat16 on one core: 29 ms against 9), and drops nothing there.
    if drop is None and not (query.dtype == torch.bfloat16 and query.device.type == "cpu"):
        return _attend_fused(query, key, value, padding_mask)
    batch, _, heads, head_dim = query.shape
    query, key, value = (part.transpose(1, 2).reshape(batch * heads, -1, head_dim) for part in (query, key, value))
    # Half of the smallest number: added to a score it must stay finite in float16 too.
    masked_score = max(MASKED_SCORE, torch.finfo(query.dtype).min / 2)
    bias = (1.0 - padding_mask.to(query.dtype)) * masked_score
    bias = bias[:, None, None, :].expand(-1, heads, -1, -1).reshape(batch * heads, 1, -1)
    # PyTorch's softmax computes 16-bit numbers in float32, in one pass forward and one backward; written out it is five and more.
    weights = torch.softmax(torch.baddbmm(bias, query, key.transpose(1, 2), alpha=1.0 / math.sqrt(head_dim)), dim=-1)
    mixed = torch.bmm(weights if drop is None else drop(weights), value)
    return mixed.view(batch, heads, -1, head_dim).transpose(1, 2)
