"""Scaled dot-product attention over sequences with padding."""

import math
from collections.abc import Callable

import keras
from keras import ops

from electra_keras.modeling.constants import MASKED_SCORE
from electra_keras.modeling.kernels.attention_by_head import attend_by_head
from electra_keras.modeling.kernels.matmul import multipliable
from electra_keras.modeling.kernels.xla import compiles_for_cpu, custom_gradient, jax_compiles_for_cpu


def attend(query, key, value, padding_mask, drop: Callable | None = None):
    """Mixes the values of every sequence by the softmax of its scaled query-key products, by the backend's fastest form.

    A sequence may have fewer queries than tokens, where the others' results are not wanted.

    PyTorch's fused kernel, and through JAX on a GPU cuDNN's, which takes 16 bits and even lengths, both without dropout. Elsewhere the
    products are written out, for XLA on CPU with gradients of their own.

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
        # XLA on CPU has no fast product of float16.
        dtype = "bfloat16" if keras.backend.standardize_dtype(value.dtype) == "bfloat16" else "float32"
        parts = [ops.cast(part, dtype) for part in (query, key, value)]
        return ops.cast(attend_by_head(*parts, _padding_bias(padding_mask), drop), value.dtype)
    match keras.backend.backend():
        case "jax" if drop is None and _jax_computes_on_gpu() and query.shape[1] % 2 == key.shape[1] % 2 == 0:
            return _attend_fused(query, key, value, padding_mask)
        case "torch":
            return ops.cast(_attend_torch(*multipliable(query, key, value), padding_mask, drop), value.dtype)
        case _:
            return attend_portable(query, key, value, padding_mask, drop)


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
    """Attention written out in keras.ops, for any backend, compiled or not.

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


def _jax_computes_on_gpu():
    import jax

    return jax.default_backend() == "gpu"


def _attend_fused(query, key, value, padding_mask):
    mask = ops.cast(padding_mask, "bool")[:, None, None, :]
    if keras.backend.backend() == "jax":
        # cuDNN takes no mask that all queries share.
        mask = ops.repeat(mask, query.shape[1], axis=2)
    return ops.dot_product_attention(query, key, value, mask=mask)


def _attend_torch(query, key, value, padding_mask, drop):
    import torch

    # The fused kernel rounds 16-bit operands more slowly on CPU than the plain products take (forward and backward of (32, 128, 2, 64) in
    # bfloat16 on one core: 29 ms against 9). It has no dropout on CPU, and on a GPU one whose state no checkpoint would hold.
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
