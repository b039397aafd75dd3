import keras
import numpy as np
import pytest

from electra_keras.modeling.kernels.dropout import Dropout, drop_by_hash

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


def murmur_finalizer(number):
    """MurmurHash3's fmix32, by Python's own integers."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        number = (number ^ (number >> shift)) * factor % 2**32
    return number ^ (number >> 16)


def bits_by_hand(index, seed):
    """As `drop_by_hash` writes them for one unit: two words of the seed, the second between the finalizer's steps; no last shift."""
    golden = 0x9E3779B1
    first = murmur_finalizer(seed[0] ^ murmur_finalizer((seed[1] + golden) % 2**32))
    second = murmur_finalizer(first ^ seed[1] * golden % 2**32)
    bits = (index + first) * golden % 2**32
    bits = ((bits ^ bits >> 16) ^ second) * 0x85EBCA6B % 2**32
    return (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32


@pytest.mark.parametrize("seed", [(5, 7), (4_000_000_000, 2**32 - 1)])
def test_the_hash_drops_the_same_units_everywhere(seed):
    units = np.ones((8, 25), np.float32)
    dropped = drop_by_hash(keras.ops.convert_to_tensor(units), 0.3, keras.ops.convert_to_tensor(np.array(seed, np.uint32)))
    expected = [0 if bits_by_hand(index, seed) < 0.3 * 2**32 else 1 / 0.7 for index in range(units.size)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(dropped).ravel(), expected, rtol=1e-6)


def test_the_gradient_passes_kept_units_alone(gradients):
    variable = keras.Variable(np.ones((4, 50), np.float32))
    masks = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
    (gradient,) = gradients(lambda: keras.ops.sum(masks[0](variable.value, training=True)), [variable])
    expected = keras.ops.convert_to_numpy(masks[1](keras.ops.ones((4, 50)), training=True))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
