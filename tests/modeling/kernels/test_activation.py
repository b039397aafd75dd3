import keras
import numpy as np
import pytest
from scipy.stats import norm

from electra_keras.modeling.kernels.activation import dense_gelu, gelu, gelu_portable
from electra_keras.modeling.kernels.matmul import dense

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("form", [gelu, gelu_portable])
def test_is_the_error_function_form(form):
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    result = keras.ops.convert_to_numpy(form(keras.ops.convert_to_tensor(x)))
    # The tanh approximation is off by up to 5e-4.
    np.testing.assert_allclose(result, x * norm.cdf(x.astype(np.float64)), atol=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_sixteen_bits(dtype, tolerance):
    x = keras.ops.cast(np.linspace(-3, 3, 61, dtype=np.float32), dtype)
    exact = keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
    result = gelu(x)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    result = keras.ops.convert_to_numpy(keras.ops.cast(result, "float32"))
    np.testing.assert_allclose(result, exact * norm.cdf(exact.astype(np.float64)), atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2**-6)])
@pytest.mark.parametrize("rows", [64, 7])
def test_gelu_of_a_dense_layer_and_its_gradients(rows, dtype, tolerance, gradients):
    random = np.random.default_rng(rows)
    inputs, kernel, bias, weights = (
        keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(random.normal(size=shape).astype(np.float32), dtype), "float32"))
        for shape in ((rows, 8), (8, 24), (24,), (rows, 24))
    )
    variables = [keras.Variable(array, dtype="float32") for array in (inputs, kernel, bias)]

    def apply():
        return dense_gelu(*(keras.ops.cast(variable.value, dtype) for variable in variables))

    def loss():
        return keras.ops.sum(keras.ops.multiply(keras.ops.cast(apply(), "float32"), keras.ops.convert_to_tensor(weights, dtype="float32")))

    x = inputs.astype(np.float64) @ kernel + bias
    inward = weights * (norm.cdf(x) + x * norm.pdf(x))
    result = apply()
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    found = [result, *gradients(loss, variables)]
    for part, exact in zip(found, (x * norm.cdf(x), inward @ kernel.T, inputs.T @ inward, inward.sum(0)), strict=True):
        part = keras.ops.convert_to_numpy(keras.ops.stop_gradient(keras.ops.cast(part, "float32")))
        np.testing.assert_allclose(part, exact, atol=tolerance * max(1.0, np.abs(exact).max()))


def test_gelu_of_a_dense_layer_of_nan_is_nan_with_its_gradients(gradients):
    kernel = keras.Variable(np.full((8, 8), np.nan, np.float32))
    inputs, bias = keras.ops.ones((8, 8)), keras.ops.zeros((8,))

    def loss():
        return keras.ops.sum(dense_gelu(inputs, kernel.value, bias))

    (by_kernel,) = gradients(loss, [kernel])
    assert np.isnan(keras.ops.convert_to_numpy(keras.ops.stop_gradient(loss())))
    assert np.isnan(keras.ops.convert_to_numpy(by_kernel)).all()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX has the form")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_under_jax_the_gradient_keeps_one_array_in_the_layers_dtype(dtype):
    import jax

    if jax.default_backend() != "cpu":
        pytest.skip("the form is for CPUs")
    rows, units, layers = 64, 512, 8
    kernel, bias = jax.numpy.ones((units, units), dtype), jax.numpy.zeros(units, dtype)

    def temporary_bytes(form):
        def loss(inputs):
            for _ in range(layers):
                inputs = form(inputs.astype(dtype), kernel, bias)
            return jax.numpy.sum(inputs.astype("float32"))

        return jax.jit(jax.grad(loss)).lower(jax.numpy.ones((rows, units))).compile().memory_analysis().temp_size_in_bytes

    # XLA that looked through the conditional would keep what it does by itself: the layer's result and its error function.
    saved = temporary_bytes(lambda *parts: gelu(dense(*parts))) - temporary_bytes(dense_gelu)
    assert saved >= layers / 2 * rows * units * 4
