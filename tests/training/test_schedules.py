"""Schedules against the original's formula (model/optimization.py), worked out by hand."""

import numpy as np
import pytest
from keras import ops

from electra_keras.config import OptimizerConfig
from electra_keras.training.schedules import build_schedule

pytestmark = pytest.mark.backend


def rates(config, num_steps, steps):
    schedule = build_schedule(config, num_steps)
    return [float(ops.convert_to_numpy(schedule(step))) for step in steps]


def test_linear_is_decay_times_warmup():
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=10)
    # Step 5: warmup 5/10, decay 1 - 5/100. Step 10: warmup over, decay 0.9. The end: 0.
    expected = [0.0, 1e-3 * 0.5 * 0.95, 1e-3 * 0.9, 1e-3 * 0.5, 1e-3 * 0.01, 0.0]
    np.testing.assert_allclose(rates(config, 100, [0, 5, 10, 50, 99, 100]), expected, rtol=1e-5, atol=1e-12)


def test_linear_without_warmup_starts_at_the_peak():
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=0)
    np.testing.assert_allclose(rates(config, 4, [0, 1, 2]), [1e-3, 1e-3 * 0.75, 1e-3 * 0.5], rtol=1e-6)


def test_warmup_stable_decay_is_flat_in_between():
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=4, schedule="warmup_stable_decay", decay_fraction=0.2)
    np.testing.assert_allclose(rates(config, 100, [2, 4, 50, 80, 90, 100]), [1.0, 2.0, 2.0, 2.0, 1.0, 0.0], rtol=1e-5, atol=1e-7)
