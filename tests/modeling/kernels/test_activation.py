import keras
import numpy as np
import pytest
from scipy.stats import norm

from electra_keras.modeling.kernels.activation import gelu, gelu_portable

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
