"""Matrix products of dense layers and tied logits, with a form for bfloat16 under XLA on CPUs.

XLA hands a product of two bfloat16 matrices to its fast library (AMX where the CPU has it) only when the result is float32 and
the sum runs over the left matrix' last dimension: (4096, 128) x (128, 512) ran at 1.2 to 1.9 TFLOP/s on two cores, against 0.3 in
float32 and 0.18 for the bfloat16 result that a mixed policy asks for. Autodiff writes neither gradient that way, so they are written here.
This holds for JAX and for TensorFlow's compiled functions; outside those TensorFlow takes oneDNN's products, fast as they are.
"""

import keras
from keras import ops

from electra_keras.modeling.kernels.xla import compiles_for_cpu, custom_gradient, jax_compiles_for_cpu

TILES = (64, 32, 16, 8)
"""Rows that a transposition moves together, the largest that divides them is taken."""
_NO_BFLOAT16_LIBRARY = ("NO AVX", "AVX2")
"""PyTorch's names for what an x86 processor without AVX-512 is capable of."""


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
        result = custom_gradient(_bias_forward, _bias_backward)(product(inputs, kernel), bias)
        # TensorFlow adds no numbers of different widths, as the residual connection would.
        return result if keras.backend.backend() == "jax" else ops.cast(result, inputs.dtype)
    if keras.backend.backend() == "torch" and len(inputs.shape) == 2:
        import torch

        # The product adds the bias as it writes.
        return torch.addmm(*multipliable(bias, inputs, kernel)).to(inputs.dtype)
    return ops.matmul(inputs, kernel) + bias


def product(inputs, kernel):
    """Returns inputs times kernel, as `dense` does before the bias, for what adds it with work of its own.

    Args:
        inputs: float (rows, features).
        kernel: float (features, units), of inputs' dtype.

    Returns:
        float (rows, units), of inputs' dtype, or float32 from the form for bfloat16.
    """
    if _is_fast_with_wide_results(inputs):
        return custom_gradient(_product_forward, _product_backward)(inputs, kernel)
    return ops.matmul(inputs, kernel)


def tied_logits(inputs, embeddings):
    """Returns every row's products with all embeddings, by the backend's fastest form.

    Args:
        inputs: float (rows, features).
        embeddings: float (vocab, features), of inputs' dtype.

    Returns:
        float (rows, vocab), of inputs' dtype, or float32 from the form for bfloat16.
    """
    if _is_fast_with_wide_results(inputs):
        return custom_gradient(_logits_forward, _logits_backward)(inputs, embeddings)
    left, right = multipliable(inputs, embeddings)
    return ops.cast(ops.matmul(left, ops.transpose(right)), inputs.dtype)


def add_output_bias(logits, bias):
    """Returns logits plus one number for every vocabulary entry, by the backend's fastest form.

    Args:
        logits: float (rows, vocab), as `tied_logits` returns them.
        bias: float (vocab,), of the policy's compute dtype.

    Returns:
        float (rows, vocab), of bias' dtype; on JAX for CPUs of logits' dtype, for what follows computes in float32 anyway.
    """
    if jax_compiles_for_cpu():
        return custom_gradient(_bias_forward, _bias_backward)(logits, bias)
    return ops.cast(logits, bias.dtype) + bias


def multipliable(*parts):
    """Returns a product's operands as PyTorch multiplies them fast: in float32 on CPUs where it has no library for bfloat16.

    On x86 it has one from AVX-512 on, whether the processor has instructions for bfloat16 or not. With AVX2, a training step by products of
    bfloat16 takes 16 times as long as by those of float32 (bench_tiny).

    Args:
        parts: float tensors of any shape, of one dtype and device.
    """
    first = parts[0]
    if keras.backend.backend() == "torch" and first.device.type == "cpu" and keras.backend.standardize_dtype(first.dtype) == "bfloat16":
        import torch

        if torch.backends.cpu.get_cpu_capability() in _NO_BFLOAT16_LIBRARY:
            return tuple(part.float() for part in parts)
    return parts


def _is_fast_with_wide_results(inputs):
    if len(inputs.shape) != 2 or keras.backend.standardize_dtype(inputs.dtype) != "bfloat16" or not compiles_for_cpu():
        return False
    # While a JAX model is built the rows are unknown, and shapes are all that is asked for.
    return keras.backend.backend() == "tensorflow" or isinstance(inputs.shape[0], int)


def _product_forward(inputs, kernel):
    return wide_product(inputs, kernel, -2), (inputs, kernel)


def _product_backward(kept, gradient):
    inputs, kernel = kept
    rounded = _whole_tiles(ops.cast(gradient, inputs.dtype))
    gradients = wide_product(rounded, kernel, -1)[: inputs.shape[0]], _outer_sum(_whole_tiles(inputs), rounded)
    return tuple(ops.cast(part, inputs.dtype) for part in gradients)


def _logits_forward(inputs, embeddings):
    return wide_product(inputs, embeddings, -1), (inputs, embeddings)


def _logits_backward(kept, gradient):
    inputs, embeddings = kept
    rounded = _whole_tiles(ops.cast(gradient, inputs.dtype))
    gradients = wide_product(rounded, embeddings, -2)[: inputs.shape[0]], _outer_sum(rounded, _whole_tiles(inputs))
    return tuple(ops.cast(part, inputs.dtype) for part in gradients)


def _bias_forward(logits, bias):
    return logits + ops.cast(bias, logits.dtype), bias


def _bias_backward(bias, gradient):
    return gradient, column_sums(gradient, bias.dtype)


def column_sums(gradient, dtype):
    """Returns (columns,) of `dtype`, the sums in float32 over the rows of a gradient that the products take as `dtype`.

    Under JAX by their product with rows of ones: a sum would want the gradient in float32 as well, a pass that nothing else needs, and
    over as many columns as a vocabulary has it goes by small steps, ten times as slowly. Under TensorFlow that costs more than it saves.
    """
    if not jax_compiles_for_cpu():
        return ops.cast(ops.sum(gradient, axis=0), dtype)
    # For a single row XLA leaves its fast library, and writes the gradient in float32 after all.
    rounded = _whole_tiles(ops.cast(gradient, dtype))
    ones = ops.ones((TILES[-1], rounded.shape[0]), dtype=dtype)
    return ops.cast(wide_product(ones, rounded, -2)[0], dtype)


def wide_product(left, right, axis):
    """Multiplies matrices of bfloat16 or float32 to ones of float32, by XLA's fast library on CPUs.

    One dimension may precede the matrices' two. With more XLA leaves that library: attention of (4, 512, 4, 64), forward and backward, took
    38 ms by products of four dimensions and 13 to 18 by those of three.

    Args:
        left: bfloat16 or float32 ([n,] rows, summed).
        right: of left's dtype ([n,] summed, columns), or ([n,] columns, summed).
        axis: right's dimension to sum over, -2 or -1.

    Returns:
        float32 ([n,] rows, columns).
    """
    if keras.backend.backend() == "jax":
        import jax

        rank = len(left.shape)
        leading = tuple(range(rank - 2))
        return jax.lax.dot_general(left, right, (((rank - 1,), (rank + axis,)), (leading, leading)), preferred_element_type="float32")

    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier

    # TensorFlow's XLA folds transpositions before and behind a product into it, tiled ones too, and then has no code for the product.
    left, right = xla_optimization_barrier([left, right])
    return xla_optimization_barrier([tf.raw_ops.BatchMatMulV3(x=left, y=right, Tout=tf.float32, adj_x=False, adj_y=axis == -1)])[0]


def _outer_sum(left, right):
    """Returns float32 left^T right, (features, units), for bfloat16 (rows, features) and (rows, units).

    The smaller matrix is the one that is transposed.
    """
    if left.shape[1] <= right.shape[1]:
        return wide_product(transpose(left), right, -2)
    return transpose(wide_product(transpose(right), left, -2))


def _whole_tiles(matrix):
    """Adds rows of zeros up to the next multiple of the smallest tile, for products that sum over the rows.

    Otherwise XLA leaves its fast library: of the paper's small at length 512, 4 examples have 316 rows of logits.
    """
    rows = matrix.shape[0]
    missing = -rows % TILES[-1] if isinstance(rows, int) else 0
    return ops.pad(matrix, ((0, missing), (0, 0))) if missing else matrix


def transpose(matrix):
    """Swaps the last two dimensions in tiles: XLA would fold a plain transposition into the product, and then leave the fast library."""
    *leading, rows, columns = ops.shape(matrix)
    tile, first = _tile(rows), len(leading)
    tiles = ops.reshape(matrix, (*leading, rows // tile, tile, columns))
    order = (*range(first), first + 2, first, first + 1)
    return ops.reshape(ops.transpose(tiles, order), (*leading, columns, rows))


def _tile(rows):
    if isinstance(rows, int):
        return next((tile for tile in TILES if rows % tile == 0), 1)
    # In a TensorFlow graph whose batches may differ, XLA computes this when it compiles for a batch.
    tile = 1
    for larger in reversed(TILES):
        tile = ops.where(rows % larger == 0, larger, tile)
    return tile
