"""Replaced-token detection, the objective of the paper (section 2)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from keras import ops

from electra_keras.config import Config, ObjectiveConfig
from electra_keras.modeling.models import build_discriminator, build_embeddings, build_generator
from electra_keras.objectives.masked_tokens import corrupt, prediction_sums
from electra_keras.objectives.protocol import Batch, Detections, Measurement, Models, Phase, Sampler, Tensor


@dataclasses.dataclass(frozen=True)
class Electra:
    """A small generator fills masked positions; the discriminator tells for every token whether it was replaced."""

    config: ObjectiveConfig
    name: ClassVar[str] = "electra"
    detects: ClassVar[bool] = True
    quantities: ClassVar[Mapping[str, str]] = {
        "generator_loss": "masked",
        "generator_accuracy": "masked",
        "detection_loss": "real",
        "replaced_fraction": "real",
    }

    def build_models(self, config: Config, vocab_size: int) -> Models:
        """Builds the generator and the discriminator, with their embeddings shared as the configuration says."""
        seed, dtype = config.training.seed, config.training.precision
        shared = build_embeddings(config.model, vocab_size, seed=seed, dtype=dtype)
        return {
            "generator": build_generator(config.model, vocab_size, embeddings=shared, seed=seed, dtype=dtype),
            "discriminator": build_discriminator(config.model, vocab_size, embeddings=shared, seed=seed, dtype=dtype),
        }

    def phases(self) -> tuple[Phase, ...]:
        """Returns the single phase: both losses at once (paper, section 2)."""
        weights = {"generator_loss": self.config.generator_weight, "detection_loss": self.config.discriminator_weight}
        return (Phase("joint", weights),)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Counts the masked and the real tokens; [CLS] and [SEP] are real."""
        return count_tokens(batch)

    def measure(self, models: Models, batch: Batch, sampler: Sampler, phase: Phase, training: bool) -> Measurement:
        """Generates replacements and lets the discriminator find them."""
        logits = models["generator"](batch.masked_inputs(), training=training)
        loss, hits = prediction_sums(logits, batch)
        sampled_ids = sampler(ops.stop_gradient(logits), self.config.temperature, batch)
        token_ids, labels = corrupt(batch, sampled_ids)
        detection_logits = models["discriminator"](batch.encoder_inputs(token_ids), training=training)
        detections = Detections(ops.cast(detection_logits, "float32"), labels, ops.cast(batch.padding_mask, "float32"))
        sums = {
            "generator_loss": loss,
            "generator_accuracy": hits,
            "detection_loss": detection_loss_sum(detections),
            "replaced_fraction": ops.sum(labels * detections.weights),
        }
        return Measurement(sums, detections)


def count_tokens(batch: Batch) -> dict[str, Tensor]:
    """Returns the float32 numbers of masked and of real tokens, at least 1 each so that an empty batch divides cleanly."""
    real = ops.sum(ops.cast(batch.padding_mask, "float32"))
    return {"masked": ops.maximum(ops.sum(batch.mask_weights), 1.0), "real": ops.maximum(real, 1.0)}


def detection_loss_sum(detections: Detections) -> Tensor:
    """Sums the binary cross-entropy in nats, computed from logits so that it cannot overflow."""
    logits, labels, weights = detections
    losses = ops.maximum(logits, 0.0) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))
    return ops.sum(losses * weights)
