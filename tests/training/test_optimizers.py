"""Which weight is updated how, and the updates against hand-computed values and Keras' own Muon."""

import keras
import numpy as np
import pytest
from keras import ops
from witnesses.tiny import VOCAB_SIZE, tiny_config

from electra_keras.config import OptimizerConfig
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives import build_objective
from electra_keras.training.optimizers import Group, GroupedOptimizer, build_optimizer, orthogonalize, parameter_groups

pytestmark = pytest.mark.backend


def shapes():
    config = tiny_config()
    models = build_objective(config.objective).build_models(config, VOCAB_SIZE)
    return {name: tuple(variable.shape) for name, variable in named_weights(models).items()}


def test_every_weight_has_the_group_that_is_meant():
    groups = parameter_groups(shapes(), OptimizerConfig(name="muon", learning_rate=1e-3, muon_learning_rate=2e-2))
    muon = {name for name, group in groups.items() if group.algorithm == "muon"}
    in_layers = {
        f"{model}/layer_{index}/{matrix}/kernel"
        for model in ("generator", "discriminator")
        for index in (0, 1)
        for matrix in ("attention/qkv", "attention/output", "intermediate", "output")
    }
    around = {"generator/embeddings_project/kernel", "discriminator/embeddings_project/kernel"}
    heads = {"generator/masked_lm_head/dense/kernel", "discriminator/detection_head/dense/kernel"}
    assert muon == in_layers | around | heads
    assert {name for name in groups if groups[name].blocks == 3} == {name for name in muon if "qkv" in name}
    assert all(groups[name].rate_multiplier == pytest.approx(20.0) for name in muon)
    without_decay = {name for name, group in groups.items() if group.weight_decay == 0}
    assert without_decay == {name for name in groups if name.rsplit("/", 1)[1] in ("bias", "gamma", "beta")}
    assert "embeddings/norm/gamma" in without_decay
    assert "generator/output_bias/bias" in without_decay
    assert groups["embeddings/word/embeddings"].weight_decay == 0.01


def test_adamw_uses_one_algorithm_and_the_generators_rate():
    groups = parameter_groups(shapes(), OptimizerConfig(generator_rate_multiplier=3.0))
    assert {group.algorithm for group in groups.values()} == {"adamw"}
    assert groups["generator/layer_0/output/kernel"].rate_multiplier == 3.0
    assert groups["discriminator/layer_0/output/kernel"].rate_multiplier == 1.0
    assert groups["embeddings/word/embeddings"].rate_multiplier == 1.0


def apply(optimizer, variables, gradients):
    optimizer.apply([ops.convert_to_tensor(np.asarray(gradient, np.float32)) for gradient in gradients], variables)


@pytest.mark.parametrize("bias_correction", [False, True])
def test_adamw_by_hand(bias_correction):
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer = GroupedOptimizer([(variable, Group("adamw", 1.0, 0.1))], 0.5, clip_norm=None, bias_correction=bias_correction)
    gradients = [np.array([0.3, -0.1]), np.array([-0.2, 0.4])]
    value, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for count, gradient in enumerate(gradients, start=1):
        apply(optimizer, [variable], [gradient])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        m_hat, v_hat = (m / (1 - 0.9**count), v / (1 - 0.999**count)) if bias_correction else (m, v)
        value = value - 0.5 * (m_hat / (np.sqrt(v_hat) + 1e-6) + 0.1 * value)
        # In float32, 1 - 0.999 keeps four digits, and the correction divides by it.
        np.testing.assert_allclose(ops.convert_to_numpy(variable.value), value, rtol=1e-4 if bias_correction else 1e-5)


def test_the_last_rate_is_that_of_the_update_just_made():
    variable = keras.Variable(np.zeros(1, np.float32))
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 4, end_learning_rate=0.0)
    optimizer = GroupedOptimizer([(variable, Group("adamw", 1.0, 0.0))], schedule)
    rates = []
    for _ in range(3):
        rates.append(float(ops.convert_to_numpy(optimizer.last_learning_rate())))
        apply(optimizer, [variable], [[1.0]])
    # Before the first update, as where loss scaling has skipped all of them, it is the first one's.
    assert rates == [1.0, 1.0, 0.75]


def test_one_clip_for_all_groups_together():
    first, second = keras.Variable(np.zeros(1, np.float32)), keras.Variable(np.zeros((1, 1), np.float32))
    groups = [(first, Group("adamw", 1.0, 0.0)), (second, Group("adamw", 1.0, 0.0))]
    optimizer = GroupedOptimizer(groups, 1.0, clip_norm=1.0)
    apply(optimizer, [first, second], [[3.0], [[4.0]]])
    # A global norm of 5 makes the gradients 0.6 and 0.8; the first moments hold a tenth of them.
    slots = [float(np.ravel(ops.convert_to_numpy(slot[0].value))[0]) for slot in optimizer.slots]
    np.testing.assert_allclose(slots, [0.06, 0.08], rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    result = ops.convert_to_numpy(orthogonalize(ops.convert_to_tensor(matrix))) / max(1.0, shape[1] / shape[0]) ** 0.5
    witness = ops.convert_to_numpy(keras.optimizers.Muon().zeropower_via_newtonschulz5(ops.convert_to_tensor(matrix), 5))
    np.testing.assert_allclose(result, witness, atol=1e-4)
    assert np.all(np.abs(np.linalg.svd(result, compute_uv=False) - 0.95) < 0.35)


def test_query_key_and_value_are_orthogonalised_apart():
    rng = np.random.default_rng(1)
    gradient = rng.normal(size=(4, 12)).astype(np.float32)
    variable = keras.Variable(np.zeros((4, 12), np.float32))
    optimizer = GroupedOptimizer([(variable, Group("muon", 1.0, 0.0, blocks=3))], 1.0, momentum=0.0, clip_norm=None)
    apply(optimizer, [variable], [gradient])
    blocks = [ops.convert_to_numpy(orthogonalize(ops.convert_to_tensor(block))) for block in np.split(gradient, 3, axis=1)]
    np.testing.assert_allclose(ops.convert_to_numpy(variable.value), -np.concatenate(blocks, axis=1), atol=1e-5)


def test_muon_slots_hold_momentum_alone():
    config = tiny_config(optimizer__name="muon")
    models = build_objective(config.objective).build_models(config, VOCAB_SIZE)
    optimizer = build_optimizer(config.optimizer, models, 10)
    optimizer.build([variable for variable in named_weights(models).values() if variable.trainable])
    assert sorted({len(slots) for slots in optimizer.slots}) == [1, 2]
    assert sum(len(slots) == 1 for slots in optimizer.slots) == 20


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_a_norm_that_is_not_finite_is_seen_in_the_weights(algorithm):
    variable = keras.Variable(np.ones((2, 2), np.float32))
    optimizer = GroupedOptimizer([(variable, Group(algorithm, 1.0, 0.0))], 1.0, clip_norm=1.0)
    apply(optimizer, [variable], [[[np.inf, 0.0], [0.0, 1.0]]])
    assert np.isnan(ops.convert_to_numpy(variable.value)).all()


@pytest.mark.parametrize("bias_correction", [False, True])
def test_all_weights_at_once_are_updated_as_one_by_one(bias_correction):
    rng = np.random.default_rng(2)
    shapes_and_groups = [
        ((3, 4), Group("adamw", 1.0, 0.1)),
        ((4, 4), Group("muon", 2.0, 0.1)),
        ((5,), Group("adamw", 3.0, 0.0)),
    ]
    values = [rng.normal(size=shape).astype(np.float32) for shape, _ in shapes_and_groups]
    gradients = [[rng.normal(size=shape).astype(np.float32) for shape, _ in shapes_and_groups] for _ in range(3)]

    def trained(together):
        variables = [keras.Variable(value) for value in values]
        groups = [(variable, group) for variable, (_, group) in zip(variables, shapes_and_groups, strict=True)]
        optimizer = GroupedOptimizer(groups, 0.1, clip_norm=1.0 if together else None, bias_correction=bias_correction)
        if not together:
            optimizer._backend_update_step = lambda gradients, variables, rate: [
                optimizer.update_step(gradient, variable, rate) for gradient, variable in zip(gradients, variables, strict=True)
            ]
        for step in gradients:
            norm = np.sqrt(sum(np.sum(gradient**2) for gradient in step))
            assert norm > 1.0
            # Copies, for an optimizer may change the gradients that it is given.
            apply(optimizer, variables, [gradient.copy() if together else gradient / norm for gradient in step])
        return [ops.convert_to_numpy(variable.value) for variable in variables]

    for together, apart in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
