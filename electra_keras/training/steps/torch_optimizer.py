"""AdamW over all weights at once on PyTorch, where every operation on one weight costs a call from Python."""

from collections.abc import Sequence

import keras
import torch


class ForeachAdamW:
    """Updates the AdamW weights of a GroupedOptimizer in a few calls for all; other weights keep their own updates."""

    @torch.no_grad()
    def _backend_update_step(self, gradients, variables, learning_rate):
        groups = [self.groups[self._get_variable_index(variable)] for variable in variables]
        adamw = [index for index, group in enumerate(groups) if group.algorithm == "adamw"]
        for index in sorted(set(range(len(groups))) - set(adamw)):
            self.update_step(gradients[index], variables[index], learning_rate)
        if adamw:
            self._update_together([gradients[i] for i in adamw], [variables[i] for i in adamw], [groups[i] for i in adamw], learning_rate)

    def _update_together(self, gradients: Sequence, variables: Sequence[keras.Variable], groups: Sequence, learning_rate):
        values = [variable.value for variable in variables]
        gradients = [gradient.to(value.dtype) for gradient, value in zip(gradients, values, strict=True)]
        slots = [self.slots[self._get_variable_index(variable)] for variable in variables]
        momenta, velocities = ([slot.value for slot in column] for column in zip(*slots, strict=True))
        torch._foreach_lerp_(momenta, gradients, 1.0 - self.beta_1)
        torch._foreach_mul_(velocities, self.beta_2)
        torch._foreach_addcmul_(velocities, gradients, gradients, value=1.0 - self.beta_2)
        updates = self._directions(momenta, velocities)
        decays = [group.weight_decay for group in groups]
        if any(decays):
            torch._foreach_add_(updates, torch._foreach_mul(values, decays))
        torch._foreach_mul_(updates, [group.rate_multiplier for group in groups])
        torch._foreach_mul_(updates, keras.ops.cast(learning_rate, "float32"))
        torch._foreach_sub_(values, updates)

    def _directions(self, momenta, velocities):
        if not self.bias_correction:
            return torch._foreach_div(momenta, _plus(torch._foreach_sqrt(velocities), self.epsilon))
        updates = keras.ops.cast(self.iterations + 1, "float32")
        first, second = 1.0 - self.beta_1**updates, 1.0 - self.beta_2**updates
        corrected = torch._foreach_div(velocities, second)
        return torch._foreach_div(torch._foreach_div(momenta, first), _plus(torch._foreach_sqrt(corrected), self.epsilon))


def _plus(tensors, number):
    torch._foreach_add_(tensors, number)
    return tensors
