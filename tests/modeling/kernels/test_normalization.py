import keras
import numpy as np
import pytest

from electra_keras.modeling.kernels.normalization import LayerNormalization

pytestmark = pytest.mark.backend

torch = pytest.importorskip("torch", reason="the witness needs torch")


@pytest.mark.parametrize("shape", [(6, 8), (2, 3, 8)])
def test_values_and_gradients_are_pytorchs(shape, gradients):
    random = np.random.default_rng(0)
    inputs, weights = (random.normal(1.0, 3.0, shape).astype(np.float32) for _ in range(2))
    gamma, beta = (random.normal(1.0, 0.5, 8).astype(np.float32) for _ in range(2))
    theirs = [torch.tensor(array, requires_grad=True) for array in (inputs, gamma, beta)]
    expected = torch.nn.functional.layer_norm(theirs[0], (8,), *theirs[1:], eps=1e-3)
    (expected.sin() * torch.tensor(weights)).sum().backward()

    layer = LayerNormalization(epsilon=1e-3)
    layer.build(shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    variable = keras.Variable(inputs)
    found = keras.ops.convert_to_numpy(keras.ops.stop_gradient(layer(variable.value)))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)

    def loss():
        return keras.ops.sum(keras.ops.sin(layer(variable.value)) * keras.ops.convert_to_tensor(weights))

    for ours, their in zip(gradients(loss, [variable, layer.gamma, layer.beta]), theirs, strict=True):
        np.testing.assert_allclose(ours, their.grad.numpy(), atol=2e-5)


def test_under_mixed_bfloat16_it_computes_in_float32_and_returns_sixteen_bits():
    layer = LayerNormalization(dtype="mixed_bfloat16", epsilon=1e-12)
    # Between 256 and 258 bfloat16 has no number: a mean of 257 would be lost in it.
    outputs = layer(keras.ops.convert_to_tensor(np.array([[256.0, 258.0]], np.float32)))
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.stop_gradient(outputs), "float32")), [[-1.0, 1.0]])
