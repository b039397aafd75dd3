import keras
import numpy as np
import pytest

from electra_keras.modeling.transformer import TransformerBlock

pytestmark = pytest.mark.backend


def test_at_some_positions_a_block_is_what_it_is_at_all(batch, gradients):
    # The witness test of the generator reads such positions; this one adds the gradient and the picked tokens' own.
    block = TransformerBlock(12, 3, 16)
    block.build((None, 12))
    random = np.random.default_rng(0)
    for variable in block.weights:
        variable.assign(random.normal(0, 0.6, variable.shape).astype(np.float32))
    stream = keras.Variable(random.normal(size=(14, 12)).astype(np.float32))
    mask, positions = batch["padding_mask"], batch["mask_positions"]
    weights = keras.ops.convert_to_tensor(random.normal(size=(6, 12)).astype(np.float32))

    def picked_from_all():
        rows = np.add(positions, [[0], [7]]).ravel()
        return keras.ops.take(block(stream.value, mask), keras.ops.convert_to_tensor(rows), axis=0)

    def picked_alone():
        return block(stream.value, mask, positions)

    found, expected = (keras.ops.convert_to_numpy(keras.ops.stop_gradient(pick())) for pick in (picked_alone, picked_from_all))
    assert found.shape == (6, 12)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    variables = [stream, *block.trainable_variables]
    losses = [lambda pick=pick: keras.ops.sum(pick() * weights) for pick in (picked_alone, picked_from_all)]
    for alone, of_all in zip(*(gradients(loss, variables) for loss in losses), strict=True):
        np.testing.assert_allclose(alone, of_all, atol=2e-5)
