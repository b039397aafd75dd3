"""Training and test step on JAX: stateless, one `value_and_grad`, micro-batches by `lax.scan`."""

import jax
import jax.numpy as jnp
import keras

from electra_keras.objectives.protocol import Batch


class JaxSteps:
    """Keras calls these with all variables as values and takes the changed values back."""

    def train_step(self, state, data):
        """One optimizer update; returns (logs, state)."""
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        batch = Batch.from_data(data)
        counts = self.objective.counts(batch)

        def scaled_loss(trainable, non_trainable, micro_batch):
            mapping = [
                *zip(self.trainable_variables, trainable, strict=True),
                *zip(self.non_trainable_variables, non_trainable, strict=True),
                *zip(self.optimizer.variables, optimizer_variables, strict=True),
            ]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                loss, measurement = self.measure(micro_batch, counts, training=True)
                scale = self.optimizer.scale_loss(jnp.float32(1.0))
            changed = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
            return loss * scale, (loss, scale, measurement.sums, changed)

        gradient_of = jax.value_and_grad(scaled_loss, has_aux=True)

        def accumulate(carry, micro_batch):
            gradients, non_trainable, loss, sums = carry
            (_, (part, scale, part_sums, non_trainable)), part_gradients = gradient_of(trainable, non_trainable, micro_batch)
            carry = (
                jax.tree.map(jnp.add, gradients, part_gradients),
                non_trainable,
                loss + part,
                jax.tree.map(jnp.add, sums, part_sums),
            )
            return carry, scale

        if self.gradient_accumulation_steps == 1:
            (_, (loss, scale, sums, non_trainable)), gradients = gradient_of(trainable, non_trainable, batch)
        else:
            micro_batches = jax.tree.map(lambda leaf: leaf.reshape(self.gradient_accumulation_steps, -1, *leaf.shape[1:]), batch)
            zeros = {name: jnp.float32(0.0) for name in self.objective.quantities}
            start = (jax.tree.map(jnp.zeros_like, trainable), non_trainable, jnp.float32(0.0), zeros)
            (gradients, non_trainable, loss, sums), scales = jax.lax.scan(accumulate, start, micro_batches)
            scale = scales[0]

        gradient_norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient.astype("float32"))) for gradient in gradients)) / scale
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, gradients, trainable)
        with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, metrics_variables, strict=True))) as scope:
            logs = self.record_training(loss, sums, counts, gradient_norm)
        metrics_variables = [scope.get_current_value(variable) for variable in self.metrics_variables]
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def sync_state(self):
        """Puts the values that `fit` holds back into the variables, so that a callback can read and change them."""
        self.jax_state_sync()

    def least_logs(self):
        """Returns the logs that Keras cannot do without: none."""
        return {}

    def test_step(self, state, data):
        """Measures one batch without an update; returns (logs, state)."""
        trainable, non_trainable, metrics_variables = state
        batch = Batch.from_data(data)
        mapping = [
            *zip(self.trainable_variables, trainable, strict=True),
            *zip(self.non_trainable_variables, non_trainable, strict=True),
            *zip(self.metrics_variables, metrics_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            logs = self.record_test(batch)
        non_trainable = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
        metrics_variables = [scope.get_current_value(variable) for variable in self.metrics_variables]
        return logs, (trainable, non_trainable, metrics_variables)
