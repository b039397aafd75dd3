"""AdamW over all weights at once on PyTorch, where every operation on one weight costs a call from Python."""

from collections.abc import Sequence

import keras
import torch

LATE_STEP = 1e9
"""Step number at which the bias correction of both moments is 1 in float64, whatever the betas: the original has none."""


def global_norm(gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Returns the norm of all gradients together, a float32 scalar; 0 where all are None."""
    present = [gradient for gradient in gradients if gradient is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present))) if present else torch.zeros(())


class FusedAdamW:
    """Updates the AdamW weights of a GroupedOptimizer by PyTorch's fused kernel, one call for each rate and decay.

    The kernel reads and writes every number once: 3.3 ms for 2.6 million weights on one core, against 17.7 ms for the same by ten
    operations over all weights. It also divides the gradients for the clip, and leaves them divided. Weights of other algorithms keep
    their own updates.
    """

    _known_norm: torch.Tensor | None = None

    def apply_measured(self, gradients: Sequence[torch.Tensor | None], variables: Sequence[keras.Variable], norm: torch.Tensor) -> None:
        """Updates the weights as `apply` does, which would compute the gradients' global norm anew."""
        self._known_norm = norm
        try:
            self.apply(gradients, variables)
        finally:
            self._known_norm = None

    def _clip_gradients(self, grads):
        """Leaves the gradients as they are, for the update divides them."""
        return grads

    @torch.no_grad()
    def _backend_update_step(self, gradients, variables, learning_rate):
        divisor = self._divisor(gradients)
        groups = [self.groups[self._get_variable_index(variable)] for variable in variables]
        together: dict[tuple[float, float], list[int]] = {}
        for index, group in enumerate(groups):
            if group.algorithm == "adamw":
                together.setdefault((group.rate_multiplier, group.weight_decay), []).append(index)
            else:
                gradient = gradients[index] if divisor is None else gradients[index] / divisor
                self.update_step(gradient, variables[index], learning_rate)
        for (multiplier, decay), members in together.items():
            rate = keras.ops.cast(learning_rate, "float32") * multiplier
            self._update_together([gradients[i] for i in members], [variables[i] for i in members], rate, decay, divisor)

    def _divisor(self, gradients) -> torch.Tensor | None:
        """Returns what the gradients are to be divided by, float32, at least 1; None where they are not clipped."""
        if not self.global_clipnorm:
            return None
        norm = global_norm(gradients) if self._known_norm is None else self._known_norm
        # As Keras: the second term is 0, or NaN for a norm that is not finite.
        return torch.clamp(norm / self.global_clipnorm, min=1.0) + (norm - norm)

    def _update_together(self, gradients: Sequence, variables: Sequence[keras.Variable], rate, decay: float, divisor):
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
            grad_scale=divisor,
        )
