"""Masked language modelling with an encoder of the discriminator's size: the baseline of the paper (section 3.4)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from electra_keras.config import Config, ObjectiveConfig
from electra_keras.modeling.models import build_masked_language_model
from electra_keras.objectives.electra import count_tokens
from electra_keras.objectives.masked_tokens import prediction_sums
from electra_keras.objectives.protocol import Batch, Measurement, Models, Phase, Sampler, Tensor


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModel:
    """Predicts the original tokens at masked positions; there is nothing to detect."""

    config: ObjectiveConfig
    name: ClassVar[str] = "mlm"
    detects: ClassVar[bool] = False
    quantities: ClassVar[Mapping[str, str]] = {"generator_loss": "masked", "generator_accuracy": "masked"}

    def build_models(self, config: Config, vocab_size: int) -> Models:
        """Builds the one model: the discriminator's encoder with a prediction head."""
        model = build_masked_language_model(config.model, vocab_size, seed=config.training.seed, dtype=config.training.precision)
        return {"encoder": model}

    def phases(self) -> tuple[Phase, ...]:
        """Returns the single phase."""
        return (Phase("prediction", {"generator_loss": self.config.generator_weight}),)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Counts the masked and the real tokens."""
        return count_tokens(batch)

    def measure(self, models: Models, batch: Batch, sampler: Sampler, phase: Phase, training: bool) -> Measurement:
        """Predicts the masked tokens; the sampler is not used."""
        logits = models["encoder"](batch.masked_inputs(), training=training)
        loss, hits = prediction_sums(logits, batch)
        return Measurement({"generator_loss": loss, "generator_accuracy": hits}, None)
