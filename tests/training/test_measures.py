"""On-device metrics against scikit-learn and hand-computed values."""

import numpy as np
import pytest
from keras import ops
from sklearn import metrics as sklearn_metrics

from electra_keras.objectives.protocol import Detections
from electra_keras.training.measures import DetectionQuality, StepWatch, TokenMean, as_floats

pytestmark = pytest.mark.backend


# A trained model's logits, an untrained one's, and those of one that starts at the prior.
@pytest.mark.parametrize(("centre", "spread"), [(-3.0, 2.0), (0.0, 0.01), (-2.2, 0.1), (0.0, 30.0)])
def test_detection_quality_equals_scikit_learn(centre, spread):
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 50)) < 0.08).astype(np.float32)
    logits = np.clip(centre + spread * (rng.normal(size=labels.shape) + 1.2 * labels), -16, 16).astype(np.float32)
    weights = (rng.random(labels.shape) < 0.9).astype(np.float32)
    quality = DetectionQuality()
    for rows in (slice(0, 25), slice(25, 40)):
        quality.update_state(Detections(*(ops.convert_to_tensor(array[rows]) for array in (logits, labels, weights))))
    results = as_floats(quality.result())
    counted = weights > 0
    assert results["detection_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels[counted], logits[counted]), abs=2e-4)
    detected = logits[counted] >= 0
    assert results["precision"] == pytest.approx(sklearn_metrics.precision_score(labels[counted], detected), abs=1e-6)
    assert results["recall"] == pytest.approx(sklearn_metrics.recall_score(labels[counted], detected), abs=1e-6)


def test_detection_quality_without_positives_has_no_auc():
    quality = DetectionQuality()
    ones = ops.ones((2, 3))
    quality.update_state(Detections(ones, 0 * ones, ones))
    assert as_floats(quality.result()) == {"detection_auc": None, "precision": 0.0, "recall": 0.0}


def test_token_mean_weighs_batches_by_their_tokens():
    mean = TokenMean("loss")
    mean.update_state(6.0, 3.0)
    mean.update_state(1.0, 1.0)
    assert float(ops.convert_to_numpy(mean.result())) == pytest.approx(7 / 4)


@pytest.mark.parametrize(
    ("losses", "norms", "scaled", "first_bad", "skipped"),
    [
        ([1.0, 2.0], [1.0, 1.0], False, 0, 0),
        ([1.0, float("nan"), 1.0, float("inf")], [1.0] * 4, False, 2, 0),
        ([1.0, 1.0], [1.0, float("inf")], False, 2, 0),
        ([1.0, 1.0, 1.0], [float("inf"), 1.0, float("nan")], True, 0, 2),
        ([1.0, float("nan")], [float("inf"), 1.0], True, 2, 1),
    ],
)
def test_step_watch(losses, norms, scaled, first_bad, skipped):
    watch = StepWatch()
    for loss, norm in zip(losses, norms, strict=True):
        watch.update_state(ops.convert_to_tensor(np.float32(loss)), ops.convert_to_tensor(np.float32(norm)), scaled)
    values = [int(ops.convert_to_numpy(variable.value)) for variable in (watch.steps, watch.first_bad, watch.skipped)]
    assert values == [len(losses), first_bad, skipped]
