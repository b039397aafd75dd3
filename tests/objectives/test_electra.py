"""The whole objective against PyTorch: losses, gradients, and fifty steps of training."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from witnesses import electra_in_torch as witness
from witnesses.tiny import MASKED, VOCAB_SIZE, random_batch, tiny_config

from electra_keras.modeling.weights import named_weights
from electra_keras.objectives import build_objective
from electra_keras.objectives.masked_tokens import corrupt
from electra_keras.objectives.protocol import Batch
from electra_keras.training.optimizers import build_optimizer
from electra_keras.training.pretrainer import ElectraPretrainer

pytestmark = pytest.mark.backend

STEPS = 50


def injected(logits, temperature, batch):
    """A sampler that ignores the logits: the replacement is given by the batch's random numbers alone."""
    return ops.cast(5 + ops.floor(batch.sample_uniforms * (VOCAB_SIZE - 5)), "int32")


def injected_ids(x):
    return torch.tensor(5 + np.floor(x["sample_uniforms"] * np.float32(VOCAB_SIZE - 5)).astype(np.int64))


def pretrainer(config, sampler=injected):
    objective = build_objective(config.objective)
    models = objective.build_models(config, VOCAB_SIZE)
    parts = config.training.gradient_accumulation_steps
    model = ElectraPretrainer(objective, models, sampler=sampler, gradient_accumulation_steps=parts)
    model.compile(optimizer=build_optimizer(config.optimizer, models, config.training.num_steps))
    return model


def randomized(model):
    """Gives every weight a value away from 0, so that no gradient vanishes by construction; returns the values by name."""
    rng = np.random.default_rng(3)
    weights = named_weights(model.models)
    for name, variable in weights.items():
        centre = 1.0 if name.endswith("gamma") else 0.0
        variable.assign(rng.normal(centre, 0.3, variable.shape).astype(np.float32))
    return {name: ops.convert_to_numpy(variable.value) for name, variable in weights.items()}


def as_torch(data):
    x, y, sample_weight = data
    batch = {name: torch.tensor(value.astype(np.int64)) for name, value in x.items() if name != "sample_uniforms"}
    return {**batch, "original_ids": torch.tensor(y.astype(np.int64)), "mask_weights": torch.tensor(sample_weight)}


def witness_losses(weights, data):
    return witness.losses(weights, as_torch(data), injected_ids(data[0]), num_layers=2, generator_heads=1, heads=2)


def test_losses_equal_the_witness():
    model = pretrainer(tiny_config())
    weights = witness.tensors(randomized(model))
    data = random_batch()
    logs = model.evaluate(*data[:2], sample_weight=data[2], batch_size=4, verbose=0, return_dict=True)
    generator_loss, detection_loss = witness_losses(weights, data)
    assert logs["generator_loss"] == pytest.approx(generator_loss.item(), rel=1e-5)
    assert logs["detection_loss"] == pytest.approx(detection_loss.item(), rel=1e-5)
    assert logs["loss"] == pytest.approx((generator_loss + 50 * detection_loss).item(), rel=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_equal_the_witness(parts):
    # One step of plain gradient descent at rate 1 moves every weight by its gradient.
    config = tiny_config(training__gradient_accumulation_steps=parts)
    model = pretrainer(config)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    before = randomized(model)
    data = random_batch()
    model.fit(*data[:2], sample_weight=data[2], batch_size=4, shuffle=False, verbose=0)
    weights = witness.tensors(before)
    generator_loss, detection_loss = witness_losses(weights, data)
    expected = torch.autograd.grad(generator_loss + 50 * detection_loss, list(weights.values()))
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert scale > 0.1
    for (name, variable), gradient in zip(named_weights(model.models).items(), expected, strict=True):
        moved = before[name] - ops.convert_to_numpy(variable.value)
        np.testing.assert_allclose(moved, gradient.numpy(), rtol=1e-5, atol=1e-5 * scale, err_msg=name)


def test_fifty_steps_stay_with_the_witness():
    # The paper's rate. At 2e-3 the losses would jump: started from weights that differ by float32's rounding, the witness itself is 1% away
    # from its own losses after forty steps.
    config = tiny_config(optimizer__learning_rate=5e-4)
    model = pretrainer(config)
    weights = witness.tensors(randomized(model))
    optimizer = witness.OriginalAdamW(weights, config.optimizer.learning_rate, config.optimizer.warmup_steps, config.training.num_steps)
    history = []
    for step in range(STEPS):
        data = random_batch(seed=step)
        logs = model.train_on_batch(*data[:2], sample_weight=data[2], return_dict=True)
        model.reset_metrics()
        generator_loss, detection_loss = witness_losses(weights, data)
        history.append((logs["loss"], (generator_loss + 50 * detection_loss).item()))
        optimizer.apply(generator_loss + 50 * detection_loss)
    ours, theirs = np.array(history).T
    assert theirs[-5:].mean() < theirs[:5].mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_labels_are_against_the_original_and_padding_is_never_written():
    # Row 0: a replacement, a sample equal to the original, one more replacement. Row 1: one prediction, two of padding.
    batch = Batch(
        token_ids=np.array([[2, 4, 7, 4, 3], [2, 8, 4, 3, 0]], np.int32),
        segment_ids=None,
        padding_mask=None,
        mask_positions=np.array([[1, 2, 3], [2, 0, 0]], np.int32),
        sample_uniforms=None,
        original_ids=np.array([[5, 7, 6], [9, 0, 0]], np.int32),
        mask_weights=np.array([[1, 1, 1], [1, 0, 0]], np.float32),
    )
    batch = Batch(*(None if leaf is None else ops.convert_to_tensor(leaf) for leaf in batch))
    token_ids, labels = corrupt(batch, ops.convert_to_tensor(np.array([[8, 7, 5], [9, 6, 6]], np.int32)))
    assert ops.convert_to_numpy(token_ids).tolist() == [[2, 8, 7, 5, 3], [2, 8, 9, 3, 0]]
    assert ops.convert_to_numpy(labels).tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]


def test_no_gradient_passes_through_the_sample():
    # With the generator's own loss switched off, whatever reaches the generator's own weights came through the sample.
    config = tiny_config(objective__generator_weight=0.0)
    model = pretrainer(config, sampler=None)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    before = randomized(model)
    data = random_batch()
    model.fit(*data[:2], sample_weight=data[2], batch_size=4, verbose=0)
    moved = {
        name: np.abs(before[name] - ops.convert_to_numpy(variable.value)).max() for name, variable in named_weights(model.models).items()
    }
    assert all(change == 0 for name, change in moved.items() if name.startswith("generator/"))
    assert any(change > 0 for name, change in moved.items() if name.startswith("discriminator/"))


def test_batches_without_random_numbers_are_sampled_with_the_models_seed():
    config = tiny_config()
    data = random_batch()
    x = {name: value for name, value in data[0].items() if name != "sample_uniforms"}
    losses = []
    for _ in range(2):
        model = pretrainer(config, sampler=None)
        randomized(model)
        history = model.fit(x, data[1], sample_weight=data[2], batch_size=4, epochs=2, shuffle=False, verbose=0).history
        losses.append(history["detection_loss"])
    assert losses[0] == losses[1]
    assert 0 < model.models["generator"].output.shape[-1] == VOCAB_SIZE
    assert data[1].shape[1] == MASKED
