import keras
import numpy as np
import pytest
from scipy import stats

from electra_keras.modeling.initializers import SeededGlorot, SeededNormal, derive_seed, matrix_initializer, truncated_normal

pytestmark = pytest.mark.backend


def test_seeds_are_fixed_and_differ_by_name_and_by_parent():
    assert derive_seed(0, "generator", "layer_0") == 2002308120
    assert len({derive_seed(seed, name) for seed in range(20) for name in ("a", "b", "ab")}) == 60
    assert all(0 <= derive_seed(seed, "x") < 2**31 for seed in range(100))


def test_numbers_are_a_normal_distribution_cut_at_two_standard_deviations():
    values = truncated_normal((300, 300), seed=1)
    assert values.dtype == np.float32
    assert np.abs(values).max() <= 2.0
    assert abs(values.mean()) < 0.01
    # Standard deviation of a standard normal cut at +-2: sqrt(1 - 4 * pdf(2) / (2 * cdf(2) - 1)).
    assert abs(values.std() - 0.8796) < 0.005


def test_scale_is_the_papers_or_follows_the_inputs():
    shape = (100, 40)
    draw = truncated_normal(shape, seed=5)
    paper = keras.ops.convert_to_numpy(matrix_initializer("truncated_normal", 5)(shape))
    fan_in = keras.ops.convert_to_numpy(matrix_initializer("fan_in", 5)(shape))
    np.testing.assert_allclose(paper, 0.02 * draw, rtol=1e-6)
    np.testing.assert_allclose(fan_in, 0.1 * draw, rtol=1e-6)


def test_glorot_is_the_uniform_distribution_that_tensorflow_starts_matrices_from():
    for shape in ((128, 256), (256, 1)):
        values = keras.ops.convert_to_numpy(matrix_initializer("glorot_uniform", 5)(shape)).ravel()
        limit = (6 / sum(shape)) ** 0.5
        assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
        witness = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(seed=1)(shape)).ravel()
        assert stats.ks_2samp(values, witness).pvalue > 1e-3
    # Fixed numbers, so that the three backends' runs of this test compare with one another.
    np.testing.assert_allclose(keras.ops.convert_to_numpy(SeededGlorot(3)((4, 2)))[0], [0.6230089664459229, -0.8287017345428467], rtol=1e-6)


def test_values_are_the_same_on_every_backend():
    # Fixed numbers, so that the three backends' runs of this test compare with one another.
    values = keras.ops.convert_to_numpy(SeededNormal(0.02, seed=3)((4, 3), dtype="float32"))
    np.testing.assert_allclose(values[0], [-0.0301503055, 0.0028552514, -0.0102537340], rtol=1e-6)


def test_round_trip_through_the_configuration():
    for initializer in (SeededNormal("fan_in", seed=8), SeededGlorot(seed=8)):
        again = type(initializer).from_config(initializer.get_config())
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(one((6, 2))) for one in (initializer, again)))
