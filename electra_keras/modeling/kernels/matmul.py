"""Matrix products of dense layers and tied logits, with a form for bfloat16 under XLA on CPUs.

XLA hands a product of two bfloat16 matrices to its fast library (AMX where the CPU has it) only when the result is float32 and
the sum runs over the left matrix' last dimension: (4096, 128) x (128, 512) ran at 1.2 to 1.9 TFLOP/s on two cores, against 0.3 in
float32 and 0.18 for the bfloat16 result that a mixed policy asks for. Autodiff writes neither gradient that way, so they are written here.
This holds for JAX and for TensorFlow's compiled functions; outside those TensorFlow takes oneDNN's products, fast as they are.
"""

import functools

import keras
from keras import ops

from electra_keras.modeling.kernels.xla import compiles_for_cpu

TILES = (64, 32, 16, 8)
"""Rows that a transposition moves together, the largest that divides them is taken."""


def dense(inputs, kernel, bias):
    """Returns inputs times kernel plus bias, by the backend's fastest form.

    Args:
        inputs: float (rows, features).
        kernel: float (features, units), of inputs' dtype.
        bias: float (units,), of inputs' dtype.

    Returns:
        float (rows, units), of inputs' dtype; on JAX float32 from the form for bfloat16, where what follows computes in float32 anyway
        and every rounding is a pass over the numbers.
    """
    if _is_fast_with_wide_results(inputs):
        product = _with_gradient(_dense_forward, _dense_backward)(inputs, kernel, bias)
        # TensorFlow adds no numbers of different widths, as the residual connection would.
        return product if keras.backend.backend() == "jax" else ops.cast(product, inputs.dtype)
    if keras.backend.backend() == "torch" and len(inputs.shape) == 2:
        import torch

        # The product adds the bias as it writes.
        return torch.addmm(bias, inputs, kernel)
    return ops.matmul(inputs, kernel) + bias


def tied_logits(inputs, embeddings):
    """Returns every row's products with all embeddings, by the backend's fastest form.

    Args:
        inputs: float (rows, features).
        embeddings: float (vocab, features), of inputs' dtype.

    Returns:
        float (rows, vocab), of inputs' dtype, or float32 from the form for bfloat16.
    """
    if _is_fast_with_wide_results(inputs):
        return _with_gradient(_logits_forward, _logits_backward)(inputs, embeddings)
    return ops.matmul(inputs, ops.transpose(embeddings))


def _is_fast_with_wide_results(inputs):
    if len(inputs.shape) != 2 or keras.backend.standardize_dtype(inputs.dtype) != "bfloat16" or not compiles_for_cpu():
        return False
    # While a JAX model is built the rows are unknown, and shapes are all that is asked for.
    return keras.backend.backend() == "tensorflow" or (isinstance(inputs.shape[0], int) and inputs.shape[0] % TILES[-1] == 0)


@functools.cache
def _with_gradient(forward, backward):
    """Returns `forward` with the gradients that `backward` computes from its arguments and its result's gradient."""
    if keras.backend.backend() == "jax":
        import jax

        product = jax.custom_vjp(forward)
        product.defvjp(lambda *arguments: (forward(*arguments), arguments), backward)
        return product

    import tensorflow as tf

    return tf.custom_gradient(lambda *arguments: (forward(*arguments), functools.partial(backward, arguments)))


def _dense_forward(inputs, kernel, bias):
    return _dot(inputs, kernel, 0) + ops.cast(bias, "float32")


def _dense_backward(arguments, gradient):
    inputs, kernel, _ = arguments
    rounded = ops.cast(gradient, inputs.dtype)
    gradients = _dot(rounded, kernel, 1), _outer_sum(inputs, rounded), ops.sum(gradient, axis=0)
    return tuple(ops.cast(part, inputs.dtype) for part in gradients)


def _logits_forward(inputs, embeddings):
    return _dot(inputs, embeddings, 1)


def _logits_backward(arguments, gradient):
    inputs, embeddings = arguments
    rounded = ops.cast(gradient, inputs.dtype)
    gradients = _dot(rounded, embeddings, 0), _outer_sum(rounded, inputs)
    return tuple(ops.cast(part, inputs.dtype) for part in gradients)


def _dot(left, right, axis):
    """Sums over left's last dimension and right's `axis`; bfloat16 in, float32 out."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.dot_general(left, right, (((1,), (axis,)), ((), ())), preferred_element_type="float32")

    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier

    # TensorFlow's XLA folds transpositions before and behind a product into it, tiled ones too, and then has no code for the product.
    left, right = xla_optimization_barrier([left, right])
    product = tf.raw_ops.BatchMatMulV3(x=left, y=right, Tout=tf.float32, adj_x=False, adj_y=axis == 1)
    return xla_optimization_barrier([product])[0]


def _outer_sum(left, right):
    """Returns float32 left^T right, (features, units), for bfloat16 (rows, features) and (rows, units).

    The smaller matrix is the one that is transposed.
    """
    if left.shape[1] <= right.shape[1]:
        return _dot(_transpose(left), right, 0)
    return _transpose(_dot(_transpose(right), left, 0))


def _transpose(matrix):
    """Transposes in tiles: XLA would fold a plain transposition into the product, and then leave the fast library."""
    rows, columns = ops.shape(matrix)
    tile = _tile(rows)
    tiles = ops.transpose(ops.reshape(matrix, (rows // tile, tile, columns)), (2, 0, 1))
    return ops.reshape(tiles, (columns, rows))


def _tile(rows):
    if isinstance(rows, int):
        return next((tile for tile in TILES if rows % tile == 0), 1)
    # In a TensorFlow graph whose batches may differ, XLA computes this when it compiles for a batch.
    tile = 1
    for larger in reversed(TILES):
        tile = ops.where(rows % larger == 0, larger, tile)
    return tile
