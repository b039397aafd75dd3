"""Metrics that stay on the device between reports: token-weighted means, detection quality, the first bad step."""

import math

import keras
import numpy as np
from keras import ops

from electra_keras.objectives.protocol import Detections, Tensor


class TokenMean(keras.metrics.Metric):
    """The sum of a quantity over tokens divided by the number of tokens."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.total = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="count")

    def update_state(self, total: Tensor, count: Tensor) -> None:
        """Adds a batch's sum and its number of tokens, float32 scalars."""
        self.total.assign_add(ops.cast(total, "float32"))
        self.count.assign_add(ops.cast(count, "float32"))

    def result(self) -> Tensor:
        """Returns the mean, 0 before the first update."""
        return self.total / ops.maximum(self.count, 1e-12)


class StepWatch(keras.metrics.Metric):
    """Counts steps and remembers the first one that went wrong, so that nothing is read back in between.

    A loss that is not finite is always wrong. A gradient that is not finite is wrong too, except under loss scaling
    (float16), where the optimizer skips the update and lowers the scale: there it is counted.

    Counts are float32, exact up to 16 million steps between two resets: TensorFlow keeps int32 variables on the host, where a step that
    XLA has compiled for a GPU cannot reach them.
    """

    def __init__(self, name: str = "step_watch"):
        super().__init__(name=name)
        self.steps = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="steps")
        self.first_bad = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="first_bad")
        self.skipped = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="skipped")

    def update_state(self, loss: Tensor, gradient_norm: Tensor, loss_is_scaled: bool) -> None:
        """Looks at one step's loss and gradient norm, float32 scalars."""
        overflow = ops.logical_not(ops.isfinite(gradient_norm))
        bad = ops.logical_not(ops.isfinite(loss))
        if loss_is_scaled:
            self.skipped.assign_add(ops.cast(overflow, "float32"))
        else:
            bad = ops.logical_or(bad, overflow)
        self.steps.assign_add(1.0)
        steps, first_bad = ops.convert_to_tensor(self.steps), ops.convert_to_tensor(self.first_bad)
        self.first_bad.assign(ops.where(ops.logical_and(bad, ops.equal(first_bad, 0.0)), steps, first_bad))

    def result(self) -> Tensor:
        """Returns the first bad step, counted from 1 since the last reset; 0 when all were good."""
        return ops.convert_to_tensor(self.first_bad)


class DetectionQuality(keras.metrics.Metric):
    """ROC AUC, precision and recall of replaced-token detection from a histogram of logits.

    The bins are equal in asinh(logit / `SCALE`), so that they are fine where an untrained model's logits crowd and wide where
    a trained one's spread: 1e-5 wide at 0, 1e-3 of the logit elsewhere; logits beyond `LIMIT` count in the outermost. Tokens
    in one bin count as ties; the AUC stays within 2e-4 of the exact one in the tests, and `evaluate` computes that.
    """

    NUM_BINS = 16_384
    LIMIT = 16.0
    SCALE = 0.01

    def __init__(self, name: str = "detection_quality"):
        super().__init__(name=name)
        self.negatives = self.add_weight(shape=(self.NUM_BINS,), initializer="zeros", dtype="float32", name="negatives")
        self.positives = self.add_weight(shape=(self.NUM_BINS,), initializer="zeros", dtype="float32", name="positives")

    def update_state(self, detections: Detections) -> None:
        """Adds a batch's tokens."""
        logits = ops.reshape(detections.logits, (-1,))
        labels = ops.reshape(detections.labels, (-1,))
        weights = ops.reshape(detections.weights, (-1,))
        largest = math.asinh(self.LIMIT / self.SCALE)
        magnitude = ops.arcsinh(ops.minimum(ops.abs(logits), self.LIMIT) / self.SCALE)
        scaled = (ops.sign(logits) * magnitude / largest + 1.0) / 2.0 * self.NUM_BINS
        bins = ops.clip(ops.cast(ops.floor(scaled), "int32"), 0, self.NUM_BINS - 1)
        self.positives.assign_add(ops.segment_sum(weights * labels, bins, num_segments=self.NUM_BINS))
        self.negatives.assign_add(ops.segment_sum(weights * (1.0 - labels), bins, num_segments=self.NUM_BINS))

    def result(self) -> dict[str, Tensor]:
        """Returns float32 scalars: detection_auc, NaN while one class is absent; precision and recall at probability 0.5, or 0."""
        positives, negatives = ops.convert_to_tensor(self.positives), ops.convert_to_tensor(self.negatives)
        num_positives, num_negatives = ops.sum(positives), ops.sum(negatives)
        # Every positive beats the negatives in lower bins and ties with those in its own.
        beaten = ops.cumsum(negatives) - 0.5 * negatives
        middle = self.NUM_BINS // 2
        found, false_alarms = ops.sum(positives[middle:]), ops.sum(negatives[middle:])
        return {
            "detection_auc": ops.sum(positives / num_positives * (beaten / num_negatives)),
            "precision": found / ops.maximum(found + false_alarms, 1.0),
            "recall": found / ops.maximum(num_positives, 1.0),
        }


def as_floats(results: dict[str, Tensor]) -> dict[str, float | None]:
    """Reads device scalars back as Python floats, None where a value is undefined (NaN)."""
    floats = {name: float(np.asarray(ops.convert_to_numpy(value))) for name, value in results.items()}
    return {name: None if np.isnan(value) else value for name, value in floats.items()}
