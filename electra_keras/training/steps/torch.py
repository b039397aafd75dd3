"""Training and test step on PyTorch: `backward` adds up the micro-batches' gradients in place."""

import torch

from electra_keras.objectives.protocol import Batch


class TorchSteps:
    """Keras calls these eagerly, or compiled where `jit_compile` asks for it."""

    def train_step(self, data):
        """One optimizer update; returns the logs."""
        batch = Batch.from_data(data)
        counts = self.objective.counts(batch)
        scale = self.optimizer.scale_loss(1.0)
        variables = self.trainable_variables
        # Not self.zero_grad(): Keras registers parameters under paths, which repeat between generator and discriminator, so
        # that it misses some; their gradients would pile up over the steps.
        for variable in variables:
            variable.value.grad = None
        loss, sums = 0.0, {}
        for micro_batch in self._micro_batches(batch):
            part_loss, measurement = self.measure(micro_batch, counts, training=True)
            (part_loss * scale).backward()
            loss = loss + part_loss.detach()
            sums = {name: sums.get(name, 0.0) + value.detach() for name, value in measurement.sums.items()}
        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            norms = torch._foreach_norm([gradient for gradient in gradients if gradient is not None])
            gradient_norm = torch.linalg.vector_norm(torch.stack(norms)) / scale
            self.optimizer.apply(gradients, variables)
            return self.record_training(loss, sums, counts, gradient_norm)

    def sync_state(self):
        """Does nothing: the variables always hold their values here."""

    def least_logs(self):
        """Returns the logs that Keras cannot do without: none."""
        return {}

    def test_step(self, data):
        """Measures one batch without an update; returns the logs."""
        with torch.no_grad():
            return self.record_test(Batch.from_data(data))

    def _micro_batches(self, batch):
        if self.gradient_accumulation_steps == 1:
            return [batch]
        columns = [None if leaf is None else leaf.chunk(self.gradient_accumulation_steps) for leaf in batch]
        return [Batch(*(None if column is None else column[i] for column in columns)) for i in range(self.gradient_accumulation_steps)]
