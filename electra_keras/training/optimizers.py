"""The original's AdamW, and Muon for hidden matrices, as one Keras optimizer over explicit groups of weights."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import keras
from keras import ops

from electra_keras.config import OptimizerConfig
from electra_keras.modeling.weights import named_weights
from electra_keras.training.schedules import build_schedule
from electra_keras.training.steps import optimizer_mixin

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al., "Muon", 2024): they push every singular value
# towards 1 fast, and need not converge.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Group:
    """How one weight is updated.

    Attributes:
        algorithm: "adamw", or "muon" for matrices (inputs, outputs).
        rate_multiplier: factor on the schedule's rate.
        weight_decay: decoupled decay, times the same rate.
        blocks: matrices side by side in the weight that Muon orthogonalises apart (3 in a fused query-key-value kernel).
    """

    algorithm: Literal["adamw", "muon"]
    rate_multiplier: float
    weight_decay: float
    blocks: int = 1


def parameter_groups(names: Mapping[str, tuple[int, ...]], config: OptimizerConfig) -> dict[str, Group]:
    """Assigns every weight to an algorithm, a rate and a decay, by its structural name.

    LayerNorm and bias do not decay (original, model/optimization.py). Muon takes all kernels but the detection head's last,
    which is a vector; embeddings, norms and biases stay with AdamW.

    Args:
        names: structural name -> shape.
        config: the optimizer section.
    """
    return {name: _group(name, shape, config) for name, shape in names.items()}


def _group(name: str, shape: tuple[int, ...], config: OptimizerConfig) -> Group:
    own_rate = config.generator_rate_multiplier if name.startswith("generator/") else 1.0
    decay = 0.0 if re.search(r"/(bias|gamma|beta)$", name) else config.weight_decay
    if config.name == "muon" and len(shape) == 2 and name.endswith("/kernel") and min(shape) > 1:
        blocks = 3 if "/qkv/" in name else 1
        return Group("muon", own_rate * config.muon_learning_rate / config.learning_rate, decay, blocks)
    return Group("adamw", own_rate, decay)


class GroupedOptimizer(optimizer_mixin(), keras.optimizers.Optimizer):
    """AdamW and Muon side by side under one schedule and one global-norm clip.

    Clipping comes before the groups, over all gradients together, as in the original. AdamW is the original's: without
    bias correction unless asked for, epsilon outside the root, decay added to the update.

    Args:
        groups: (variable, group) for every variable that will be trained.
        learning_rate: float or schedule; a group's rate is a multiple of it.
        beta_1, beta_2, epsilon, bias_correction: AdamW's.
        momentum: Muon's, Nesterov.
        clip_norm: largest global gradient norm, or None.
    """

    def __init__(
        self,
        groups: list[tuple[keras.Variable, Group]],
        learning_rate,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = False,
        momentum: float = 0.95,
        clip_norm: float | None = 1.0,
    ):
        super().__init__(learning_rate=learning_rate, global_clipnorm=clip_norm, name="grouped_optimizer")
        self.schedule = learning_rate
        self.group_of = {id(variable): group for variable, group in groups}
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.bias_correction = bias_correction
        self.momentum = momentum

    def last_learning_rate(self):
        """Returns the rate of the update just made, a scalar; under a schedule, Keras' `learning_rate` is that of the next one."""
        if not callable(self.schedule):
            return self.learning_rate
        # Under loss scaling there may have been none yet.
        return self.schedule(ops.maximum(self.iterations - 1, 0))

    def build(self, variables):
        """Creates one slot for a Muon variable, two for an AdamW variable."""
        if self.built:
            return
        super().build(variables)
        # By index: TensorFlow passes its own variables to `update_step`, not the Keras ones.
        self.groups = [self.group_of[id(variable)] for variable in variables]
        self.slots = []
        for variable, group in zip(variables, self.groups, strict=True):
            names = ["momentum"] if group.algorithm == "muon" else ["momentum", "velocity"]
            self.slots.append([self.add_variable_from_reference(variable, name=name) for name in names])

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable in place."""
        index = self._get_variable_index(variable)
        group = self.groups[index]
        rate = ops.cast(learning_rate, variable.dtype) * group.rate_multiplier
        gradient = ops.cast(gradient, variable.dtype)
        if group.algorithm == "muon":
            update = self._muon_update(gradient, *self.slots[index], group.blocks)
        else:
            update = self._adamw_update(gradient, *self.slots[index])
        if group.weight_decay:
            update = update + group.weight_decay * ops.convert_to_tensor(variable)
        self.assign_sub(variable, rate * update)

    def _adamw_update(self, gradient, momentum, velocity):
        self.assign(momentum, self.beta_1 * momentum + (1.0 - self.beta_1) * gradient)
        self.assign(velocity, self.beta_2 * velocity + (1.0 - self.beta_2) * ops.square(gradient))
        if not self.bias_correction:
            return momentum / (ops.sqrt(velocity) + self.epsilon)
        updates = ops.cast(self.iterations + 1, gradient.dtype)
        first = momentum / (1.0 - ops.power(self.beta_1, updates))
        second = velocity / (1.0 - ops.power(self.beta_2, updates))
        return first / (ops.sqrt(second) + self.epsilon)

    def _muon_update(self, gradient, momentum, blocks):
        self.assign(momentum, self.momentum * momentum + gradient)
        direction = gradient + self.momentum * momentum
        if blocks == 1:
            return orthogonalize(direction)
        return ops.concatenate([orthogonalize(block) for block in ops.split(direction, blocks, axis=1)], axis=1)


def orthogonalize(matrix):
    """Replaces a matrix by nearly the closest one with orthonormal rows or columns, by Newton-Schulz iteration.

    The result is scaled by sqrt(max(1, outputs / inputs)), so that its effect on the output's size does not depend on
    the shape (Jordan et al., 2024).

    Args:
        matrix: float32 (inputs, outputs).
    """
    inputs, outputs = matrix.shape
    wide = ops.transpose(matrix) if inputs > outputs else matrix
    a, b, c = NEWTON_SCHULZ
    wide = wide / (ops.sqrt(ops.sum(ops.square(wide))) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = ops.matmul(wide, ops.transpose(wide))
        wide = a * wide + ops.matmul(b * gram + c * ops.matmul(gram, gram), wide)
    result = ops.transpose(wide) if inputs > outputs else wide
    return result * max(1.0, outputs / inputs) ** 0.5


def build_optimizer(config: OptimizerConfig, models: Mapping[str, keras.Model], num_steps: int) -> GroupedOptimizer:
    """Returns the optimizer that a configuration describes, for the weights of an objective's models.

    Args:
        config: the optimizer section.
        models: from `objective.build_models`.
        num_steps: updates of the whole run, for the schedule.
    """
    weights = {name: variable for name, variable in named_weights(models).items() if variable.trainable}
    groups = parameter_groups({name: tuple(variable.shape) for name, variable in weights.items()}, config)
    return GroupedOptimizer(
        [(variable, groups[name]) for name, variable in weights.items()],
        build_schedule(config, num_steps),
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        bias_correction=config.bias_correction,
        momentum=config.muon_momentum,
        clip_norm=config.clip_norm,
    )
