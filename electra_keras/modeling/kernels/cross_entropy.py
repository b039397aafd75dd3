"""Cross-entropy over a large vocabulary, with as few passes over the logits as the backend allows."""

import functools

import keras
from keras import ops

from electra_keras.modeling.kernels.xla import custom_gradient


def token_losses(logits, token_ids):
    """Returns the negative log-likelihood of tokens in nats, float32 (...), computed in float32.

    Args:
        logits: float (..., vocab), before softmax.
        token_ids: int32 (...), in [0, vocab).
    """
    match keras.backend.backend():
        case "jax" | "tensorflow":
            return _by_rows(custom_gradient(_losses_forward, _losses_backward), ops.cast(logits, "float32"), token_ids)
        case "torch":
            return _torch_losses()(logits, token_ids.long())
        case _:
            return token_losses_portable(logits, token_ids)


def _by_rows(function, logits, token_ids):
    """Applies a function to logits (rows, vocab) and ids (rows,), which is how the models computed them.

    In another shape, XLA on CPU copies logits of bfloat16, through float32 and back.
    """
    shape = ops.shape(token_ids)
    return ops.reshape(function(ops.reshape(logits, (-1, logits.shape[-1])), ops.reshape(token_ids, (-1,))), shape)


def token_losses_portable(logits, token_ids):
    """The definition, by Keras."""
    return ops.sparse_categorical_crossentropy(token_ids, ops.cast(logits, "float32"), from_logits=True)


def is_most_likely(logits, token_ids):
    """Tells whether a token is the arg-max, bool (...); of equal logits the first counts.

    Where everything is fused, it is cheaper to look for a logit that comes before the token's: XLA on CPU follows arg-max's pair of value
    and index through a loop of scalars. PyTorch's maximum with its index is one pass over the logits, where the comparison would be five
    and its arg-max, a loop of scalars, takes three times as long. It reads float32, which the loss needs too, in less time than bfloat16
    (304 x 30,522 on two cores: 3.2 and 5.5 ms).

    Args:
        logits: float (..., vocab).
        token_ids: int32 (...), in [0, vocab).
    """
    if keras.backend.backend() == "torch":
        return ops.equal(logits.float().max(dim=-1).indices, token_ids)
    return _by_rows(_is_first_maximum, logits, token_ids)


def _is_first_maximum(logits, token_ids):
    token_ids = ops.expand_dims(token_ids, -1)
    own = ops.take_along_axis(logits, token_ids, axis=-1)
    index = ops.arange(logits.shape[-1], dtype="int32")
    before = ops.logical_or(logits > own, ops.logical_and(ops.equal(logits, own), index < token_ids))
    return ops.logical_not(ops.any(before, axis=-1))


def _losses_forward(logits, token_ids):
    """Keeps the exponentials and two numbers a row for the gradient, where autodiff writes a one-hot matrix as well.

    The draw of replacements needs the same exponentials: XLA computes them once.
    """
    largest = ops.max(logits, axis=-1, keepdims=True)
    weights = ops.exp(logits - largest)
    totals = ops.sum(weights, axis=-1, keepdims=True)
    own = ops.take_along_axis(logits, ops.expand_dims(token_ids, -1), axis=-1)
    return (ops.log(totals) + largest - own)[..., 0], (weights, totals, token_ids)


def _losses_backward(kept, gradient):
    weights, totals, token_ids = kept
    gradient = ops.expand_dims(gradient, -1)
    is_own = ops.equal(ops.arange(weights.shape[-1], dtype="int32"), ops.expand_dims(token_ids, -1))
    return weights * (gradient / totals) - ops.where(is_own, gradient, 0.0), None


@functools.cache
def _torch_losses():
    """Keeps the probabilities: PyTorch's softmax is one pass, where it would take three to compute them anew from the logits.

    A recorded step computes them once for the loss and for the draw of replacements, and the maximum once for the loss and for the hits.
    """
    import torch

    class Losses(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, token_ids):
            exact = logits.float()
            probabilities = torch.softmax(exact, dim=-1)
            ctx.save_for_backward(probabilities, token_ids)
            ctx.dtype = logits.dtype
            # Of a token's own probability, which may be too small to be told from 0, the logarithm would be lost.
            largest = exact.max(dim=-1)
            log_total = largest.values - _gathered(probabilities, largest.indices).log()
            return log_total - _gathered(exact, token_ids)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            probabilities, token_ids = ctx.saved_tensors
            logits_gradient = probabilities * gradient[..., None]
            logits_gradient.scatter_add_(-1, token_ids[..., None], -gradient[..., None])
            return logits_gradient.to(ctx.dtype), None

    return Losses.apply


def _gathered(rows, index):
    return rows.gather(-1, index[..., None])[..., 0]
