import keras
import numpy as np
import pytest

from electra_keras.modeling.token_stream import FlattenTokens, RestoreTokens, gather_tokens

pytestmark = pytest.mark.backend


@pytest.fixture
def tokens():
    return np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


def test_restore_undoes_flatten(tokens):
    stream = FlattenTokens()(tokens)
    assert tuple(stream.shape) == (6, 4)
    restored = RestoreTokens()(stream, np.zeros((2, 3)))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(restored), tokens)


def test_gather_takes_positions_of_each_example(tokens):
    positions = np.array([[2, 0], [1, 1]], dtype=np.int32)
    picked = gather_tokens(FlattenTokens()(tokens), positions, 3)
    expected = np.stack([tokens[0, 2], tokens[0, 0], tokens[1, 1], tokens[1, 1]])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(picked), expected)


def test_unknown_shapes_are_filled_in_when_the_graph_runs(tokens):
    tokens_in = keras.Input((None, 4))
    mask_in = keras.Input((None,), dtype="int32")
    restored = RestoreTokens()(FlattenTokens()(tokens_in), mask_in)
    assert restored.shape == (None, None, 4)
    model = keras.Model([tokens_in, mask_in], restored)
    for values in (tokens, tokens[:1, :2]):
        mask = np.ones(values.shape[:2], dtype=np.int32)
        np.testing.assert_array_equal(model.predict([values, mask], verbose=0), values)
