import types

import keras
import numpy as np
import pytest

from electra_keras.config import MaskingRates
from electra_keras.data.dataset import num_validation_batches, training_batches, validation_batches

pytestmark = pytest.mark.backend

TOKENIZER = types.SimpleNamespace(pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4)


class Examples:
    num_examples = 10

    def token_ids(self, indices):
        return np.repeat(5 + np.asarray(indices, np.int32)[:, None] % 5, 8, axis=1)

    def lengths(self, indices):
        return np.full((len(indices), 2), 8, np.int32)


class SumTokens(keras.layers.Layer):
    """Predicts the same at every masked position, and sums the token ids that pass, so that a test sees which batches did."""

    def build(self, input_shape):
        self.logits = self.add_weight(shape=(10,), initializer="zeros")
        self.total = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.total.assign_add(keras.ops.sum(keras.ops.cast(inputs["token_ids"] * inputs["padding_mask"], "float32")))
        rows = keras.ops.zeros_like(inputs["mask_positions"], dtype="float32")[..., None]
        return rows + self.logits


def make_model():
    inputs = {name: keras.Input((8,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}
    inputs["mask_positions"] = keras.Input((2,), dtype="int32", name="mask_positions")
    inputs["sample_uniforms"] = keras.Input((2,), dtype="float32", name="sample_uniforms")
    model = keras.Model(inputs, SumTokens(name="count")(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, weighted_metrics=["sparse_categorical_accuracy"])
    return model


def total_of(batches):
    return sum(int((x["token_ids"] * x["padding_mask"]).sum()) for x, _, _ in batches)


def test_fit_and_evaluate_take_the_data_sets_as_they_are():
    rates = MaskingRates(0.25, 0.0)
    training = training_batches(Examples(), TOKENIZER, batch_size=4, rates=rates, seed=0, start_step=2)
    validation = validation_batches(Examples(), TOKENIZER, batch_size=4, rates=rates, seed=0, num_examples=10)
    iterator = iter(training)
    expected = total_of(next(iterator) for _ in range(6))

    model = make_model()
    model.fit(training, steps_per_epoch=3, epochs=2, verbose=0)
    assert float(model.get_layer("count").total) == expected

    steps = num_validation_batches(Examples(), batch_size=4, num_examples=10)
    figures = [model.evaluate(validation, steps=steps, verbose=0, return_dict=True) for _ in range(2)]
    assert figures[0] == figures[1]
    assert np.isfinite(figures[0]["loss"])
