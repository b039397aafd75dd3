"""Training and test step on PyTorch."""

import torch

from electra_keras.objectives.protocol import Batch
from electra_keras.training.steps.torch_gradients import EagerGradients, RecordedGradients
from electra_keras.training.steps.torch_optimizer import FusedAdamW, global_norm


class TorchSteps:
    """Keras calls these as they are, or compiled where `jit_compile` asks for it."""

    def compile(self, *arguments, **named_arguments):
        """As Keras' own; other weights may be trainable from now on, so that recordings are made anew."""
        super().compile(*arguments, **named_arguments)
        self._gradients_of = None

    def train_step(self, data):
        """One optimizer update; returns the logs."""
        batch = Batch.from_data(data)
        if batch.sample_uniforms is None:
            batch = batch._replace(sample_uniforms=self.draw_uniforms(batch))
        counts = self.objective.counts(batch)
        scale = torch.as_tensor(self.optimizer.scale_loss(1.0))
        if self._gradients_of is None:
            self._gradients_of = self._gradients_function()
        first, *others = self._micro_batches(batch)
        gradients, loss, sums = self._gradients_of(first, counts, scale)
        for micro_batch in others:
            part = self._gradients_of(micro_batch, counts, scale)
            _add(gradients, part.values)
            loss = loss + part.loss
            sums = {name: value + part.sums[name] for name, value in sums.items()}
        with torch.no_grad():
            # Before the update, which may change the gradients.
            norm = global_norm(gradients)
            if isinstance(self.optimizer, FusedAdamW):
                self.optimizer.apply_measured(gradients, self._gradients_of.trained, norm)
            else:
                self.optimizer.apply(gradients, self._gradients_of.trained)
            return self.record_training(loss, sums, counts, norm / scale)

    def sync_state(self):
        """Does nothing: the variables always hold their values here."""

    def least_logs(self):
        """Returns the logs that Keras cannot do without: none."""
        return {}

    def test_step(self, data):
        """Measures one batch without an update; returns the logs."""
        with torch.no_grad():
            return self.record_test(Batch.from_data(data))

    def _gradients_function(self) -> EagerGradients:
        # Recordings have been tried on CPUs alone, and torch.compile wants to see the layers itself.
        on_cpu = self.trainable_variables[0].value.device.type == "cpu"
        return RecordedGradients(self) if on_cpu and not (self.run_eagerly or self.jit_compile) else EagerGradients(self)

    def _micro_batches(self, batch):
        columns = [leaf.chunk(self.gradient_accumulation_steps) for leaf in batch]
        return [Batch(*parts) for parts in zip(*columns, strict=True)]


# What a recording returns may be changed in this mode alone.
@torch.inference_mode()
def _add(gradients, more):
    """Adds gradients to others, in place; a weight has both or neither."""
    pairs = [pair for pair in zip(gradients, more, strict=True) if pair[0] is not None]
    torch._foreach_add_(*map(list, zip(*pairs, strict=True)))
