"""What the tests of the models share: a tiny shape, a batch with padding, compilation and gradients on the backend at hand."""

import numpy as np
import pytest

from electra_keras.config import ModelConfig


def make_config(**changes):
    fields = {
        "num_layers": 2,
        "hidden_dim": 12,
        "num_heads": 3,
        "intermediate_dim": 16,
        "embedding_dim": 8,
        "max_positions": 16,
        "generator_width_fraction": 1 / 3,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return ModelConfig(**{**fields, **changes})


@pytest.fixture
def config_with():
    """Makes the tiny shape, 3 heads of 4, with changes."""
    return make_config


@pytest.fixture
def config():
    return make_config()


@pytest.fixture
def batch():
    """Two examples over ten words, the second with three tokens of padding and one padded mask position."""
    random = np.random.default_rng(7)
    padding_mask = np.ones((2, 7), dtype=np.int32)
    padding_mask[1, 4:] = 0
    return {
        "token_ids": (random.integers(1, 10, (2, 7)) * padding_mask).astype(np.int32),
        "segment_ids": np.array([[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]], dtype=np.int32),
        "padding_mask": padding_mask,
        "mask_positions": np.array([[2, 5, 3], [1, 2, 0]], dtype=np.int32),
    }


@pytest.fixture
def token_inputs(batch):
    """The batch as the discriminator takes it."""
    return {name: values for name, values in batch.items() if name != "mask_positions"}


def _compiled(function):
    import keras

    match keras.backend.backend():
        case "jax":
            import jax

            return jax.jit(function)
        case "tensorflow":
            import tensorflow as tf

            return tf.function(function, jit_compile=True, autograph=False)
        case _:
            return function


@pytest.fixture
def compiled():
    """Compiles a function of tensors with the backend's compiler, where it has one."""
    return _compiled


def _gradients(loss, variables):
    import keras

    match keras.backend.backend():
        case "jax":
            import jax

            def loss_at(values):
                with keras.StatelessScope(list(zip(variables, values, strict=True))):
                    return loss()

            found = jax.jit(jax.grad(loss_at))([variable.value for variable in variables])
        case "tensorflow":
            import tensorflow as tf

            def gradients_of_loss():
                with tf.GradientTape() as tape:
                    value = loss()
                weights = [variable.value for variable in variables]
                found = tape.gradient(value, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
                return [tf.convert_to_tensor(gradient) for gradient in found]

            # Compiled, as training is: some kernels have forms for XLA alone.
            found = _compiled(gradients_of_loss)()
        case _:
            import torch

            values = [variable.value for variable in variables]
            found = torch.autograd.grad(loss(), values, allow_unused=True, materialize_grads=True)
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


@pytest.fixture
def gradients():
    """Computes the gradient of a loss, a function without arguments, by some variables, as NumPy arrays."""
    return _gradients
