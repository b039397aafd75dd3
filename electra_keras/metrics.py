"""How well replaced tokens are told from original ones."""

import numpy as np
from sklearn import metrics as sklearn_metrics

from electra_keras.errors import UserError


def detection_metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> dict[str, float | None]:
    """Measures a detector on tokens whose truth is known.

    Accuracy alone misleads: 6 to 10% of the tokens are replaced, so that a detector which never says so is right nine times in ten.

    Args:
        labels: integer or bool, any shape: 1 = replaced. Leave padding out.
        probabilities: float of the same shape, P(replaced), in [0, 1].
        threshold: a token counts as detected when its probability is at least this.

    Returns:
        detection_auc: area under the ROC curve. None where all tokens are of one class, which leaves it undefined.
        average_precision: area under the precision-recall curve, by steps; None likewise.
        precision: share of the detected that are replaced; 0 where nothing is detected.
        recall: share of the replaced that are detected; 0 where nothing is replaced.
        accuracy: share of tokens on the right side of the threshold.
        calibration_error: see `expected_calibration_error`.
        replaced_fraction: share of tokens that are replaced.

    Raises:
        ValueError: the shapes differ, there are no tokens, or values lie outside their range.
        UserError: a probability is NaN.
    """
    labels, probabilities = np.ravel(labels), np.ravel(probabilities).astype(np.float64)
    _check(labels, probabilities)
    labels = labels.astype(bool)
    detected = probabilities >= threshold
    hits = np.count_nonzero(labels & detected)
    two_classes = labels.any() and not labels.all()
    return {
        "detection_auc": float(sklearn_metrics.roc_auc_score(labels, probabilities)) if two_classes else None,
        "average_precision": float(sklearn_metrics.average_precision_score(labels, probabilities)) if two_classes else None,
        "precision": float(hits / max(1, np.count_nonzero(detected))),
        "recall": float(hits / max(1, np.count_nonzero(labels))),
        "accuracy": float(np.mean(labels == detected)),
        "calibration_error": expected_calibration_error(labels, probabilities),
        "replaced_fraction": float(np.mean(labels)),
    }


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 10) -> float:
    """Returns how far, on average over tokens, P(replaced) lies from the share that is replaced among tokens of similar P.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning", section 3; applied to the
    probability of being replaced rather than to the likelier class.

    Args:
        labels: integer or bool (tokens,): 1 = replaced.
        probabilities: float (tokens,), in [0, 1].
        num_bins: bins of equal width over [0, 1]; a value on an inner edge belongs to the upper bin.
    """
    bins = np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
    # A bin's share of tokens cancels the division by its size.
    excess = np.bincount(bins, weights=probabilities - labels, minlength=num_bins)
    return float(np.abs(excess).sum() / len(labels))


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if labels.shape != probabilities.shape or labels.size == 0:
        raise ValueError(f"There are {labels.size} labels and {probabilities.size} probabilities; they must be as many, and at least one.")
    if np.isnan(probabilities).any():
        raise UserError(
            "The detector's probabilities are NaN: its training diverged. Use an earlier checkpoint or train with a lower rate."
        )
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(f"Probabilities lie in [{probabilities.min()}, {probabilities.max()}]; they must lie in [0, 1].")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("A label is neither 0 nor 1; leave padding out.")
