import keras
import numpy as np
import pytest

from electra_keras.modeling.kernels.dropout import Dropout

pytestmark = pytest.mark.backend

SHAPE = (64, 500)
UNITS = 32_000


def drop(layer):
    result = layer(keras.ops.ones(SHAPE, dtype="float32"), training=True)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    return keras.ops.convert_to_numpy(result)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(rate):
    result = drop(Dropout(rate, seed=1))
    kept = result != 0
    # Five standard deviations of a binomial share.
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / UNITS) ** 0.5
    np.testing.assert_allclose(result[kept], 1 / (1 - rate), rtol=1e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inputs_keep_their_dtype_under_every_policy(dtype, policy):
    dropped = Dropout(0.1, seed=1, dtype=policy)(keras.ops.ones(SHAPE, dtype=dtype), training=True)
    assert keras.backend.standardize_dtype(dropped.dtype) == dtype


def test_acts_in_training_only_and_not_at_rate_zero():
    ones = keras.ops.ones(SHAPE)
    for layer, training in ((Dropout(0.5, seed=1), False), (Dropout(0.0, seed=1), True)):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(ones, training=training)), 1)


def test_units_calls_and_seeds_are_independent():
    layer = Dropout(0.5, seed=1)
    masks = [drop(layer).ravel() != 0, drop(layer).ravel() != 0, drop(Dropout(0.5, seed=2)).ravel() != 0]
    signs = [mask * 2.0 - 1.0 for mask in masks]
    limit = 5 / UNITS**0.5
    for first in range(3):
        for second in range(first + 1, 3):
            for shift in (0, 1, 2, 500):
                assert abs((signs[first] * np.roll(signs[second], shift)).mean()) < limit
        for shift in (1, 2, 3, 4, 64, 500):
            assert abs((signs[first] * np.roll(signs[first], shift)).mean()) < limit


def test_one_seed_drops_the_same_units():
    first, second = Dropout(0.3, seed=7), Dropout(0.3, seed=7)
    for _ in range(2):
        np.testing.assert_array_equal(drop(first), drop(second))


def test_the_gradient_passes_kept_units_alone(gradients):
    variable = keras.Variable(np.ones((4, 50), np.float32))
    masks = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
    (gradient,) = gradients(lambda: keras.ops.sum(masks[0](variable.value, training=True)), [variable])
    expected = keras.ops.convert_to_numpy(masks[1](keras.ops.ones((4, 50)), training=True))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
