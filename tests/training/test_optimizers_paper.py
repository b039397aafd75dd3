"""The paper's optimisation, update by update, against the original's formulas in plain NumPy (model/optimization.py)."""

import numpy as np
import pytest
from keras import ops
from witnesses.tiny import VOCAB_SIZE, tiny_config

from electra_keras.config import OptimizerConfig
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives import build_objective
from electra_keras.training.optimizers import build_optimizer

pytestmark = pytest.mark.backend

NUM_STEPS, WARMUP_STEPS, PEAK = 8, 3, 0.01
# The global norms of the gradients: both sides of the clip at 1, and the clip itself.
NORMS = [0.3, 7.0, 1.0, 0.05, 20.0, 0.9, 1.1, 3.0]


def original_training(values, gradients):
    """Yields the values after every update: float64, one weight and one formula after the other."""
    values = {name: np.asarray(value, np.float64) for name, value in values.items()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for global_step, grads in enumerate(gradients):
        # tf.train.polynomial_decay of power 1 to 0, times warm-up; the first update finds global_step at 0.
        learning_rate = PEAK * (1 - min(global_step, NUM_STEPS) / NUM_STEPS)
        learning_rate *= min(1.0, global_step / WARMUP_STEPS)
        # tf.clip_by_global_norm over all variables together.
        norm = sum(float(np.sum(np.square(gradient, dtype=np.float64))) for gradient in grads.values()) ** 0.5
        scale = 1.0 * min(1 / norm, 1 / 1.0)
        for name, gradient in grads.items():
            gradient = gradient * scale
            first[name] = 0.9 * first[name] + (1 - 0.9) * gradient
            second[name] = 0.999 * second[name] + (1 - 0.999) * gradient**2
            update = first[name] / (second[name] ** 0.5 + 1e-6)
            # exclude_from_weight_decay: LayerNorm and bias.
            if not name.endswith(("/gamma", "/beta", "/bias")):
                update = update + 0.01 * values[name]
            values[name] = values[name] - learning_rate * update
        yield dict(values)


def random_gradients(shapes):
    rng = np.random.default_rng(5)
    for norm in NORMS:
        grads = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        length = sum(np.sum(gradient**2) for gradient in grads.values()) ** 0.5
        yield {name: (gradient * norm / length).astype(np.float32) for name, gradient in grads.items()}


def test_every_weight_of_the_models_takes_the_originals_path():
    config = tiny_config()
    models = build_objective(config.objective).build_models(config, VOCAB_SIZE)
    weights = named_weights(models)
    # All but the length are the paper's values, which are the section's defaults.
    optimizer = build_optimizer(OptimizerConfig(learning_rate=PEAK, warmup_steps=WARMUP_STEPS), models, NUM_STEPS)
    optimizer.build(list(weights.values()))
    start = {name: np.array(ops.convert_to_numpy(variable.value)) for name, variable in weights.items()}
    gradients = list(random_gradients({name: value.shape for name, value in start.items()}))
    for number, (grads, expected) in enumerate(zip(gradients, original_training(start, gradients), strict=True)):
        optimizer.apply([ops.convert_to_tensor(grads[name]) for name in weights], list(weights.values()))
        for name, variable in weights.items():
            value = ops.convert_to_numpy(variable.value)
            # The first update has rate 0; what the others change is compared, not the value that it is added to.
            np.testing.assert_allclose(value - start[name], expected[name] - start[name], rtol=2e-3, atol=3e-7, err_msg=f"{name}, {number}")
    moved = [np.abs(expected[name] - start[name]).max() for name in weights]
    assert min(moved) > 1e-3


def test_the_papers_values_are_the_defaults():
    paper = OptimizerConfig()
    assert (paper.name, paper.schedule, paper.learning_rate, paper.warmup_steps) == ("adamw", "linear", 5e-4, 10_000)
    assert (paper.beta_1, paper.beta_2, paper.epsilon, paper.bias_correction) == (0.9, 0.999, 1e-6, False)
    assert (paper.weight_decay, paper.clip_norm, paper.generator_rate_multiplier) == (0.01, 1.0, 1.0)
