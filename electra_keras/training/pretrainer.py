"""The Keras model that pre-training trains: an objective, its models, and the metrics of both."""

import dataclasses
from typing import Any

import keras
from keras import ops

from electra_keras.modeling.initializers import derive_seed
from electra_keras.objectives.masked_tokens import sample_replacements
from electra_keras.objectives.protocol import Batch, Measurement, Models, Objective, Phase, Sampler, Tensor
from electra_keras.training.measures import DetectionQuality, StepWatch, TokenMean
from electra_keras.training.steps import step_mixin


class ElectraPretrainer(step_mixin(), keras.Model):
    """Trains an objective's models with `compile(optimizer=...)` and `fit(dataset)`, as any Keras model.

    The loss is the objective's; `compile` takes no other. Batches are (x, y, sample_weight) in KerasHub's masked-LM
    convention: x holds int32 token_ids, segment_ids, padding_mask (batch, length) and mask_positions (batch, masked),
    y the original ids there, sample_weight 0 where mask_positions is padding. Where x also holds float32
    sample_uniforms (batch, masked), replacements are drawn from those numbers and not from the model's own seeds.

    Args:
        objective: what is learned, from `electra_keras.objectives`.
        models: the objective's models, from `objective.build_models`.
        sampler: draws the replacements; the exact draw of `electra_keras.modeling.kernels.sampling` by default.
        gradient_accumulation_steps: parts in which a batch passes through the models; it must divide the batch.
        logs_every_batch: False keeps the logs on the device, for training loops that read them at intervals of their own.
        seed: of the default sampler.

    Raises:
        NotImplementedError: the objective has several phases, or one with a share, trainable weights or an entry of its own, none of which
            would be honoured here.
    """

    def __init__(
        self,
        objective: Objective,
        models: Models,
        *,
        sampler: Sampler | None = None,
        gradient_accumulation_steps: int = 1,
        logs_every_batch: bool = True,
        seed: int = 0,
    ):
        super().__init__(name="pretrainer")
        self.objective = objective
        self.models = dict(models)
        self.phase = _only_phase(objective)
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.logs_every_batch = logs_every_batch
        self.sample_seed = keras.random.SeedGenerator(derive_seed(seed, "sampler"))
        self.sampler: Sampler = sampler or self._sample
        self.quantity_means = {name: TokenMean(name) for name in objective.quantities}
        self.loss_mean = TokenMean("loss")
        self.gradient_norm_mean = TokenMean("gradient_norm")
        self.tokens = TokenMean("tokens")
        self.step_watch = StepWatch()
        self.detection_quality = DetectionQuality() if objective.detects else None
        self.built = True

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> Tensor:
        """Applies the model that a finished run is used through: the discriminator where there is one."""
        model = self.models.get("discriminator") or next(iter(self.models.values()))
        return model({name: inputs[name] for name in model.input}, training=training)

    def measure(self, batch: Batch, counts: dict[str, Tensor], training: bool) -> tuple[Tensor, Measurement]:
        """Passes a (micro-)batch through the models.

        Args:
            batch: all of an update's examples, or a part of them.
            counts: the whole update's token counts, so that the parts' losses add up to the update's.
            training: whether dropout is active.

        Returns:
            The float32 scalar to minimise, and the sums it is made of.
        """
        measurement = self.objective.measure(self.models, batch, self.sampler, self.phase, training)
        loss = 0.0
        for name, weight in self.phase.loss_weights.items():
            loss += weight * measurement.sums[name] / counts[self.objective.quantities[name]]
        return loss, measurement

    def record_training(self, loss: Tensor, sums: dict[str, Tensor], counts: dict[str, Tensor], gradient_norm: Tensor) -> dict[str, Any]:
        """Updates the metrics after a training step and returns the logs for Keras."""
        self._record(loss, sums, counts)
        finite = ops.cast(ops.isfinite(gradient_norm), "float32")
        self.gradient_norm_mean.update_state(ops.where(ops.isfinite(gradient_norm), gradient_norm, 0.0), finite)
        loss_is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        self.step_watch.update_state(loss, gradient_norm, loss_is_scaled)
        return self._logs([self.gradient_norm_mean])

    def record_test(self, batch: Batch) -> dict[str, Any]:
        """Measures a batch without training, updates the metrics and returns the logs for Keras."""
        counts = self.objective.counts(batch)
        loss, measurement = self.measure(batch, counts, training=False)
        self._record(loss, measurement.sums, counts)
        logs = self._logs([])
        if measurement.detections is not None:
            self.detection_quality.update_state(measurement.detections)
            if self.logs_every_batch:
                logs.update(self.detection_quality.result())
        return logs

    def draw_uniforms(self, batch: Batch) -> Tensor:
        """Draws the batch's sample_uniforms from the model's own seeds: float32 (batch, masked) in [0, 1)."""
        return keras.random.uniform(ops.shape(batch.mask_positions), seed=self.sample_seed)

    def training_results(self) -> dict[str, Tensor]:
        """Returns the training metrics since they were last reset, as device scalars."""
        return {metric.name: metric.result() for metric in [*self.quantity_means.values(), self.gradient_norm_mean]}

    def test_results(self) -> dict[str, Tensor]:
        """Returns the metrics of the last `evaluate`, as device scalars."""
        results = {name: metric.result() for name, metric in self.quantity_means.items()}
        return results if self.detection_quality is None else {**results, **self.detection_quality.result()}

    def num_tokens(self) -> float:
        """Returns the input tokens since the metrics were last reset, without padding, counted once."""
        return float(ops.convert_to_numpy(self.tokens.total.value))

    def num_skipped_updates(self) -> int:
        """Returns the updates that loss scaling skipped since the metrics were last reset."""
        return int(ops.convert_to_numpy(self.step_watch.skipped.value))

    def watched_steps(self) -> tuple[int, int]:
        """Returns the steps since the metrics were last reset, and the first bad one among them (from 1; 0 for none)."""
        return int(ops.convert_to_numpy(self.step_watch.steps.value)), int(ops.convert_to_numpy(self.step_watch.first_bad.value))

    def _record(self, loss: Tensor, sums: dict[str, Tensor], counts: dict[str, Tensor]) -> None:
        for name, count_name in self.objective.quantities.items():
            self.quantity_means[name].update_state(sums[name], counts[count_name])
        self.loss_mean.update_state(loss, 1.0)
        self.tokens.update_state(counts["real"], 1.0)

    def _logs(self, more: list[TokenMean]) -> dict[str, Any]:
        if not self.logs_every_batch:
            return self.least_logs()
        return {metric.name: metric.result() for metric in [self.loss_mean, *self.quantity_means.values(), *more]}

    def _sample(self, logits: Tensor, temperature: float, batch: Batch) -> Tensor:
        if batch.sample_uniforms is None:
            batch = batch._replace(sample_uniforms=self.draw_uniforms(batch))
        return sample_replacements(logits, temperature, batch)


def _only_phase(objective: Objective) -> Phase:
    phases = objective.phases()
    if len(phases) != 1:
        raise NotImplementedError(f"Objectives of one phase can be trained; {objective.name} has {len(phases)}.")
    phase = phases[0]
    plain = Phase(phase.name, phase.loss_weights)
    other = [field.name for field in dataclasses.fields(Phase) if getattr(phase, field.name) != getattr(plain, field.name)]
    if other:
        raise NotImplementedError(
            f"Phases that take all steps and train all weights can be trained; {objective.name}'s has {', '.join(other)} of its own."
        )
    return phase
