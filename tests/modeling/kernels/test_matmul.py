import keras
import numpy as np
import pytest

from electra_keras.modeling.kernels.matmul import add_output_bias, dense, tied_logits
from electra_keras.modeling.kernels.xla import compiles_for_cpu

pytestmark = pytest.mark.backend

# Wider and narrower than high, a multiple of the tiles and not one: every branch of the gradient.
SHAPES = [(64, 8, 24), (64, 24, 8), (24, 16, 16), (7, 8, 5)]


def parts(rows, features, units, dtype):
    random = np.random.default_rng(rows + units)
    arrays = (random.normal(size=shape).astype(np.float32) for shape in ((rows, features), (features, units), (units,)))
    return [rounded(array, dtype) for array in arrays]


def rounded(array, dtype):
    return keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(array, dtype), "float32"))


def assert_close(result, exact, dtype):
    """Equal to float32's rounding, or to bfloat16's of the largest number."""
    found = keras.ops.convert_to_numpy(keras.ops.stop_gradient(keras.ops.cast(result, "float32")))
    np.testing.assert_allclose(found, exact, atol=1e-4 if dtype == "float32" else 2**-7 * np.abs(exact).max())


def loss_of(form, variables, dtype, weights):
    def loss():
        result = form(*(keras.ops.cast(variable.value, dtype) for variable in variables))
        return keras.ops.sum(keras.ops.multiply(keras.ops.cast(result, "float32"), keras.ops.convert_to_tensor(weights)))

    return loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_and_its_gradients(shape, dtype, gradients):
    inputs, kernel, bias = parts(*shape, dtype)
    weights = rounded(np.random.default_rng(1).normal(size=(shape[0], shape[2])).astype(np.float32), dtype)
    variables = [keras.Variable(array) for array in (inputs, kernel, bias)]
    result = dense(*(keras.ops.cast(variable.value, dtype) for variable in variables))
    assert_close(result, inputs @ kernel + bias, dtype)
    expected = (weights @ kernel.T, inputs.T @ weights, weights.sum(0))
    for found, exact in zip(gradients(loss_of(dense, variables, dtype, weights), variables), expected, strict=True):
        assert_close(found, exact, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tied_logits_and_their_gradients(shape, dtype, gradients):
    inputs, embeddings, _ = parts(*shape, dtype)
    embeddings = np.ascontiguousarray(embeddings.T)
    weights = rounded(np.random.default_rng(2).normal(size=(shape[0], shape[2])).astype(np.float32), dtype)
    variables = [keras.Variable(array) for array in (inputs, embeddings)]
    result = tied_logits(*(keras.ops.cast(variable.value, dtype) for variable in variables))
    assert_close(result, inputs @ embeddings.T, dtype)
    expected = (weights @ embeddings, weights.T @ inputs)
    for found, exact in zip(gradients(loss_of(tied_logits, variables, dtype, weights), variables), expected, strict=True):
        assert_close(found, exact, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [64, 7])
def test_the_output_bias_and_its_gradient(rows, dtype, gradients):
    random = np.random.default_rng(rows)
    logits, weights = (random.normal(size=(rows, 9)).astype(np.float32) for _ in range(2))
    bias = rounded(random.normal(size=9).astype(np.float32), dtype)
    variables = [keras.Variable(array) for array in (logits, bias)]

    def form(logits, bias):
        return add_output_bias(logits, keras.ops.cast(bias, dtype))

    is_wide = keras.backend.backend() == "jax"
    assert_close(form(*(variable.value for variable in variables)), logits + bias, "float32" if is_wide else dtype)
    by_logits, by_bias = gradients(loss_of(form, variables, "float32", weights), variables)
    assert_close(by_logits, weights, "float32" if is_wide else dtype)
    assert_close(by_bias, weights.sum(0), dtype)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="only XLA on CPU has the form")
def test_bfloat16_under_xla_takes_the_form_with_float32_results(compiled):
    if not compiled(lambda: keras.ops.convert_to_tensor(compiles_for_cpu()))():
        pytest.skip("the form is for CPUs")
    # Rows that the tiles of a transposition fit, and rows that get others beside them.
    for rows in (64, 7):
        inputs, embeddings, _ = (keras.ops.cast(array, "bfloat16") for array in parts(rows, 8, 24, "bfloat16"))
        logits = compiled(lambda inputs, embeddings: tied_logits(inputs, keras.ops.transpose(embeddings)))(inputs, embeddings)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow traces functions for rows it does not know")
@pytest.mark.parametrize(("features", "units"), [(8, 24), (24, 8)])
def test_tensorflow_may_trace_before_it_knows_the_rows(features, units):
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, tf.bfloat16) for shape in ((None, features), (features, units), (units,), (None, units))]

    @tf.function(jit_compile=True, autograph=False, input_signature=signature)
    def gradients(inputs, kernel, bias, weights):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel, bias])
            total = tf.reduce_sum(tf.cast(dense(inputs, kernel, bias), tf.float32) * tf.cast(weights, tf.float32))
        return tape.gradient(total, [inputs, kernel, bias])

    for rows in (64, 24, 7):
        inputs, kernel, bias = parts(rows, features, units, "bfloat16")
        weights = rounded(np.random.default_rng(3).normal(size=(rows, units)).astype(np.float32), "bfloat16")
        found = gradients(*(tf.cast(array, tf.bfloat16) for array in (inputs, kernel, bias, weights)))
        for gradient, exact in zip(found, (weights @ kernel.T, inputs.T @ weights, weights.sum(0)), strict=True):
            assert_close(gradient, exact, "bfloat16")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="XLA has a library for bfloat16 on every processor")
@pytest.mark.parametrize(("capability", "multiplied"), [("AVX2", "float32"), ("NO AVX", "float32"), ("AVX512", "bfloat16")])
def test_pytorch_multiplies_bfloat16_in_float32_where_it_has_no_library(capability, multiplied, monkeypatch, product_dtypes):
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    inputs, kernel, bias = (torch.tensor(array, dtype=torch.bfloat16, requires_grad=True) for array in parts(64, 8, 24, "bfloat16"))
    for form, operands in ((dense, (inputs, kernel, bias)), (tied_logits, (inputs, kernel.T))):
        with product_dtypes() as dtypes:
            result = form(*operands)
            gradients = torch.autograd.grad(result.sum(), [inputs, kernel])
        assert dtypes == [multiplied] * 3
        assert {part.dtype for part in (result, *gradients)} == {torch.bfloat16}
