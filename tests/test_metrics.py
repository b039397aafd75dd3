import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from electra_keras.errors import UserError
from electra_keras.metrics import detection_metrics, expected_calibration_error


def test_figures_of_a_written_out_case():
    labels = [[1, 0, 1], [0, 0, 0]]
    probabilities = [[0.9, 0.6, 0.4], [0.3, 0.1, 0.1]]
    figures = detection_metrics(np.array(labels), np.array(probabilities))
    # Of the 2 x 4 pairs of a replaced and an original token, only (0.4, 0.6) stands the wrong way round.
    assert figures["detection_auc"] == pytest.approx(7 / 8)
    # Precision where a replaced token is reached: 1/1 and 2/3.
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["precision"] == pytest.approx(1 / 2)
    assert figures["recall"] == pytest.approx(1 / 2)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["replaced_fraction"] == pytest.approx(2 / 6)
    # Bins: 0.9 -> 1; 0.6 -> 0; 0.4 -> 1; 0.3 -> 0; 0.1 twice -> 0.
    assert figures["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.3 + 0.2) / 6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_figures_agree_with_scikit_learn(threshold):
    generator = np.random.default_rng(0)
    probabilities = generator.random(3000).round(2).astype(np.float32)
    labels = (generator.random(3000) < probabilities**2).astype(np.int32)
    figures = detection_metrics(labels, probabilities, threshold)
    detected = probabilities.astype(np.float64) >= threshold
    assert figures["precision"] == pytest.approx(sklearn_metrics.precision_score(labels, detected))
    assert figures["recall"] == pytest.approx(sklearn_metrics.recall_score(labels, detected))
    assert figures["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, detected))
    assert figures["detection_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities))
    assert figures["average_precision"] == pytest.approx(sklearn_metrics.average_precision_score(labels, probabilities))


@pytest.mark.parametrize(("label", "recall"), [(0, 0.0), (1, 0.5)])
def test_one_class_alone_leaves_ranking_figures_undefined(label, recall):
    figures = detection_metrics(np.full(2, label), np.array([0.2, 0.7]))
    assert figures["detection_auc"] is None
    assert figures["average_precision"] is None
    assert figures["recall"] == recall
    assert figures["precision"] == label


def test_nothing_detected_is_precision_zero():
    figures = detection_metrics(np.array([0, 1]), np.array([0.1, 0.2]))
    assert figures["precision"] == figures["recall"] == 0.0


def test_the_threshold_itself_counts_as_detected():
    assert detection_metrics(np.array([1]), np.array([0.5]))["recall"] == 1.0


def test_figures_are_plain_numbers():
    figures = detection_metrics(np.array([True, False]), np.array([0.75, 0.25], np.float32))
    assert json.loads(json.dumps(figures))["detection_auc"] == 1.0
    assert {type(value) for value in figures.values()} == {float}


def test_calibration_error_by_bins():
    probabilities = np.array([0.05, 0.05, 0.95, 1.0, 0.5])
    labels = np.array([0, 1, 1, 1, 0])
    # Bin 0: |0.1 - 1|, bin 9: |1.95 - 2|, bin 5: 0.5, each times its size over 5.
    assert expected_calibration_error(labels, probabilities) == pytest.approx((0.9 + 0.05 + 0.5) / 5)


def test_a_calibrated_detector_has_nearly_no_calibration_error():
    generator = np.random.default_rng(1)
    probabilities = generator.random(100_000)
    labels = generator.random(100_000) < probabilities
    assert expected_calibration_error(labels, probabilities) < 0.01
    assert expected_calibration_error(labels, probabilities**2) > 0.1


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([0, 1], [0.5], "2 labels and 1 probabilities"),
        ([], [], "at least one"),
        ([0, 1], [0.5, 1.5], r"must lie in \[0, 1\]"),
        ([0, -100], [0.5, 0.5], "neither 0 nor 1"),
    ],
)
def test_unusable_input_is_refused(labels, probabilities, words):
    with pytest.raises(ValueError, match=words):
        detection_metrics(np.array(labels), np.array(probabilities))


def test_nan_is_an_error_the_user_can_mend():
    with pytest.raises(UserError, match="earlier checkpoint"):
        detection_metrics(np.array([0, 1]), np.array([0.5, np.nan]))
