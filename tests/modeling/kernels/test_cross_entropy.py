import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from electra_keras.modeling.kernels.cross_entropy import is_most_likely, token_losses, token_losses_portable

pytestmark = pytest.mark.backend


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.normal(0, 3, (3, 5, 40)).astype(np.float32), random.integers(0, 40, (3, 5)).astype(np.int32)


@pytest.mark.parametrize("form", [token_losses, token_losses_portable])
@pytest.mark.parametrize("shift", [0.0, 500.0])
def test_equals_the_definition(form, shift, data, compiled):
    logits, token_ids = data
    losses = compiled(form)(keras.ops.convert_to_tensor(logits + np.float32(shift)), keras.ops.convert_to_tensor(token_ids))
    exact = -np.take_along_axis(log_softmax((logits + np.float32(shift)).astype(np.float64), -1), token_ids[..., None], -1)[..., 0]
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses), exact, rtol=1e-5, atol=1e-5 if shift == 0 else 1e-3)


@pytest.mark.parametrize("form", [token_losses, token_losses_portable])
def test_gradient_is_softmax_less_one_hot(form, data, gradients):
    logits, token_ids = data
    weights = np.random.default_rng(1).normal(size=token_ids.shape).astype(np.float32)
    variable = keras.Variable(logits)
    ids = keras.ops.convert_to_tensor(token_ids)
    (gradient,) = gradients(
        lambda: keras.ops.sum(keras.ops.multiply(form(variable.value, ids), keras.ops.convert_to_tensor(weights))), [variable]
    )
    exact = weights[..., None] * (softmax(logits.astype(np.float64), -1) - np.eye(40)[token_ids])
    np.testing.assert_allclose(gradient, exact, atol=1e-5)


def test_bfloat16_logits_give_float32_losses(data):
    logits, token_ids = data
    half = keras.ops.cast(logits, "bfloat16")
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    exact = -np.take_along_axis(log_softmax(rounded.astype(np.float64), -1), token_ids[..., None], -1)[..., 0]
    losses = token_losses(half, keras.ops.convert_to_tensor(token_ids))
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses), exact, rtol=1e-5, atol=1e-5)


def test_most_likely_is_the_arg_max_and_the_first_of_equals_counts(data, compiled):
    logits, _ = data
    logits = np.round(logits)  # many ties
    best = logits.argmax(-1).astype(np.int32)
    last = (39 - logits[..., ::-1].argmax(-1)).astype(np.int32)
    assert (best != last).any()
    for token_ids in (best, last):
        found = compiled(is_most_likely)(keras.ops.convert_to_tensor(logits), keras.ops.convert_to_tensor(token_ids))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), token_ids == best)
