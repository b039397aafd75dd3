import keras
import numpy as np
import pytest

from electra_keras.modeling.kernels.embedding import add_positions_and_segments

pytestmark = pytest.mark.backend


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_the_sum_and_its_gradient(dtype, tolerance, compiled, gradients):
    random = np.random.default_rng(0)
    words, positions, segments = (random.normal(size=shape).astype(np.float32) for shape in ((2, 5, 4), (5, 4), (2, 4)))
    weights = random.normal(size=(2, 5, 4)).astype(np.float32)
    # Any id but 0 is the second segment.
    segment_ids = np.array([[0, 0, 1, 1, 1], [0, 2, 0, 0, 0]], np.int32)
    in_second = segment_ids != 0
    variables = [keras.Variable(array) for array in (words, positions, segments)]
    ids = keras.ops.convert_to_tensor(segment_ids)

    def total():
        return add_positions_and_segments(*(keras.ops.cast(variable.value, dtype) for variable in variables), ids)

    def loss():
        return keras.ops.sum(keras.ops.cast(total(), "float32") * keras.ops.convert_to_tensor(weights))

    found = compiled(lambda: keras.ops.stop_gradient(keras.ops.cast(total(), "float32")))()
    expected = words + positions + segments[in_second.astype(int)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=tolerance)
    by_hand = [weights, weights.sum(axis=0), np.stack([weights[~in_second].sum(axis=0), weights[in_second].sum(axis=0)])]
    for gradient, wanted in zip(gradients(loss, variables), by_hand, strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=tolerance)
