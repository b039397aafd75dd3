"""Learning-rate schedules, in optimizer updates counted from 0."""

import keras
from keras import ops

from electra_keras.config import OptimizerConfig


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear decay to 0 over all steps, times linear warmup: the original's schedule (model/optimization.py).

    The two factors multiply, so the peak lies a little below `peak`; update 0 has rate 0, or `peak` where there is no warmup.
    """

    def __init__(self, peak: float, warmup_steps: int, num_steps: int):
        self.peak, self.warmup_steps, self.num_steps = peak, warmup_steps, num_steps

    def __call__(self, step):
        """Returns the float32 rate of an update."""
        step = ops.cast(step, "float32")
        warmup = ops.minimum(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.peak * self.remaining(step) * warmup

    def remaining(self, step):
        """Returns the decay's factor in [0, 1]."""
        return 1.0 - ops.minimum(step, self.num_steps) / self.num_steps

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "num_steps": self.num_steps}


class WarmupStableDecay(WarmupLinearDecay):
    """Linear warmup, a flat stretch, then linear decay to 0 over the last `decay_fraction` of the steps."""

    def __init__(self, peak: float, warmup_steps: int, num_steps: int, decay_fraction: float):
        super().__init__(peak, warmup_steps, num_steps)
        self.decay_fraction = decay_fraction

    def remaining(self, step):
        """Returns the decay's factor in [0, 1]."""
        return ops.clip((self.num_steps - step) / (self.decay_fraction * self.num_steps), 0.0, 1.0)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "decay_fraction": self.decay_fraction}


def build_schedule(config: OptimizerConfig, num_steps: int) -> WarmupLinearDecay:
    """Returns the schedule that a configuration names."""
    match config.schedule:
        case "linear":
            return WarmupLinearDecay(config.learning_rate, config.warmup_steps, num_steps)
        case "warmup_stable_decay":
            return WarmupStableDecay(config.learning_rate, config.warmup_steps, num_steps, config.decay_fraction)
