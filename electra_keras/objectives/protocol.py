"""What an objective declares, so that the training steps never need to know which one they run.

An objective is written once with `keras.ops`: it builds its models, names the quantities it measures, and says for every
phase which of them are minimised. Everything else (gradients, accumulation, metrics, checkpoints) is the trainer's.

Measured quantities are sums over tokens. What a sum is divided by (the masked tokens, the real tokens) is a function of
the data alone, `counts`, and is known before the first of several micro-batches passes through the models; so gradient
accumulation and data parallelism average over the tokens of the whole update, not over averages of unequal parts.

How other objectives fit, to show that no wall has to move (phases that differ from the default are declared here for them, and
`ElectraPretrainer` refuses them until it can train them):
    two phases        `phases` returns (generator alone, weight 1, trainable "generator"), (discriminator alone, weight 1,
                      trainable "discriminator"), the second with `on_entry` copying the generator's encoder.
    adversarial       `measure` adds the sums "generator_reward" (log-probability of the sample times advantage, minimised)
                      and "baseline_loss"; the baseline is one more model in `build_models`.
    masked positions  "detection_loss" is declared over the count "masked" in place of "real".
    copy heads        `build_models` gives the generator-sized head of all-token prediction a second output; `measure` reads it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from keras import ops

from electra_keras.config import Config

Tensor = Any
Models = Mapping[str, Any]


class Batch(NamedTuple):
    """A masked batch in KerasHub's convention, as one value that passes through jit, scan and slicing.

    Attributes:
        token_ids: int32 (batch, length), the generator's input, [MASK] in place.
        segment_ids: int32 (batch, length), 0 or 1.
        padding_mask: int32 (batch, length), 1 at real tokens.
        mask_positions: int32 (batch, masked), padded with 0.
        sample_uniforms: float32 (batch, masked) in [0, 1), one random number for each replacement to draw; None where the
            sampler brings its own.
        original_ids: int32 (batch, masked), the tokens at mask_positions before masking.
        mask_weights: float32 (batch, masked), 0 where mask_positions is padding.
    """

    token_ids: Tensor
    segment_ids: Tensor
    padding_mask: Tensor
    mask_positions: Tensor
    sample_uniforms: Tensor | None
    original_ids: Tensor
    mask_weights: Tensor

    @classmethod
    def from_data(cls, data: tuple[Mapping[str, Tensor], Tensor, Tensor]) -> "Batch":
        """Reads the (x, y, sample_weight) that `fit` passes to a train step; NumPy arrays become tensors."""
        x, original_ids, mask_weights = data
        values = {**x, "original_ids": original_ids, "mask_weights": mask_weights}
        tensors = {name: None if values.get(name) is None else ops.convert_to_tensor(values[name]) for name in cls._fields}
        return cls(**tensors)

    def encoder_inputs(self, token_ids: Tensor | None = None) -> dict[str, Tensor]:
        """Returns an encoder's inputs, with other token ids where they are given."""
        return {
            "token_ids": self.token_ids if token_ids is None else token_ids,
            "segment_ids": self.segment_ids,
            "padding_mask": self.padding_mask,
        }

    def masked_inputs(self) -> dict[str, Tensor]:
        """Returns the inputs of a model that predicts the tokens at mask_positions."""
        return {**self.encoder_inputs(), "mask_positions": self.mask_positions}


class Detections(NamedTuple):
    """The discriminator's answer and the truth, for metrics over tokens.

    Attributes:
        logits: float32 (batch, length), before the sigmoid.
        labels: float32 (batch, length), 1 where the token was replaced.
        weights: float32 (batch, length), 0 at positions that do not count.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor


class Measurement(NamedTuple):
    """What one pass over a (micro-)batch measured: a scalar sum for every declared quantity."""

    sums: dict[str, Tensor]
    detections: Detections | None


# Draws int32 (batch, masked) ids from float logits (batch, masked, vocab) at a temperature; no gradient passes through it.
Sampler = Callable[[Tensor, float, Batch], Tensor]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with its own losses.

    The attributes with defaults are declared for objectives to come. Until the trainer honours them it refuses other values, so that no
    objective is trained otherwise than it says.

    Attributes:
        name: tells an objective's phases apart.
        loss_weights: measured quantity -> factor in the minimised sum.
        share: share of all steps that the phase takes; the shares of an objective's phases add up to 1.
        trainable: prefixes of the structural weight names that are updated; ("",) for all.
        on_entry: called with the models when the phase begins, for example to copy weights.
    """

    name: str
    loss_weights: Mapping[str, float]
    share: float = 1.0
    trainable: tuple[str, ...] = ("",)
    on_entry: Callable[[Models], None] | None = None


class Objective(Protocol):
    """What is learned. Implementations are stateless apart from their configuration."""

    name: str
    quantities: Mapping[str, str]  # measured quantity -> the count it is averaged over
    detects: bool  # whether a trained run can score replaced tokens

    def build_models(self, config: Config, vocab_size: int) -> Models:
        """Builds the models, by the names under which their weights are saved."""
        ...

    def phases(self) -> tuple[Phase, ...]:
        """Returns the phases in their order; so far a single one, with defaults, can be trained."""
        ...

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the float32 scalar counts that sums are divided by, at least 1 each."""
        ...

    def measure(self, models: Models, batch: Batch, sampler: Sampler, phase: Phase, training: bool) -> Measurement:
        """Passes a batch through the models and sums up what it finds."""
        ...
