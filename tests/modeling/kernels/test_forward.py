import keras
import numpy as np
import pytest

from electra_keras.config import ModelConfig
from electra_keras.errors import BackendError
from electra_keras.modeling.kernels.forward import forward_function, wants_few_shapes
from electra_keras.modeling.models import build_discriminator

pytestmark = pytest.mark.backend

CONFIG = ModelConfig(
    num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, embedding_dim=4, max_positions=8, dropout=0.5, attention_dropout=0.5
)


def inputs_of(num_rows, length):
    token_ids = np.random.default_rng(length).integers(0, 10, (num_rows, length)).astype(np.int32)
    padding_mask = np.ones_like(token_ids)
    padding_mask[:, length - 1] = 0
    return {"token_ids": token_ids, "segment_ids": np.zeros_like(token_ids), "padding_mask": padding_mask}


def product_model():
    """Returns a model whose output can be computed by hand: ids times one weight."""
    inputs = {"token_ids": keras.Input((None, 1), name="token_ids")}
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs["token_ids"])
    return keras.Model(inputs, keras.layers.Dropout(0.5)(outputs))


@pytest.mark.parametrize("shape", [(1, 3), (2, 8)])
def test_the_values_are_those_of_the_model_called_layer_by_layer(shape):
    model = build_discriminator(CONFIG, 10)
    inputs = inputs_of(*shape)
    logits = forward_function(model)(inputs)
    assert logits.shape == shape and logits.dtype == np.float32
    expected = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6)


def test_weights_are_read_at_every_call():
    model = product_model()
    forward = forward_function(model)
    inputs = {"token_ids": np.array([[[3.0], [5.0]]], np.float32)}
    assert forward(inputs).tolist() == [[[3.0], [5.0]]]
    model.trainable_variables[0].assign([[2.0]])
    assert forward(inputs).tolist() == [[[6.0], [10.0]]]
    # Neither do the weights change, nor are they given away.
    assert keras.ops.convert_to_numpy(model.trainable_variables[0]).tolist() == [[2.0]]


def test_a_shape_gives_the_same_to_the_bit_whatever_other_shapes_were_seen():
    model = build_discriminator(CONFIG, 10)
    inputs = inputs_of(1, 3)
    forward = forward_function(model)
    before = forward(inputs)
    for num_rows, length in ((2, 3), (4, 4), (1, 8), (3, 5), (8, 8)):
        forward(inputs_of(num_rows, length))
    np.testing.assert_array_equal(forward(inputs), before)
    np.testing.assert_array_equal(forward_function(model)(inputs), before)


# Rows as many as tokens, and both as many as weights have rows or columns: a recording for any size must not take them for the same.
@pytest.mark.parametrize("first", [(8, 8), (4, 4), (2, 3), (8, 1)])
def test_every_shape_has_the_models_values_whichever_came_first(first):
    model = build_discriminator(CONFIG, 10)
    forward = forward_function(model)
    for shape in (first, (2, 8), (3, 4), (16, 2), (1, 5), (8, 3), (1, 1)):
        inputs = inputs_of(*shape)
        expected = keras.ops.convert_to_numpy(model(inputs, training=False))
        np.testing.assert_allclose(forward(inputs), expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(wants_few_shapes(), reason="PyTorch alone has a function for any shape")
def test_pytorch_records_once_for_all_shapes_of_several_rows(monkeypatch):
    from torch.fx.experimental import proxy_tensor

    made = []
    original = proxy_tensor.make_fx
    monkeypatch.setattr(proxy_tensor, "make_fx", lambda *arguments, **named: made.append(1) or original(*arguments, **named))
    forward = forward_function(build_discriminator(CONFIG, 10))
    for shape in ((2, 3), (3, 3), (8, 8), (2, 7)):
        forward(inputs_of(*shape))
    assert len(made) == 1
    for shape in ((1, 3), (1, 8), (1, 3)):
        forward(inputs_of(*shape))
    assert len(made) == 3


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(BackendError, match="'numpy'"):
        forward_function(product_model())
