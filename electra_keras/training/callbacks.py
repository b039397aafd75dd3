"""What happens between steps: reports, validation, checkpoints, and leaving in good order.

They run in that order at a step, so that whatever a checkpoint's step has to say is in metrics.jsonl before the checkpoint
exists; a run resumed from it cuts the file there and repeats nothing.
"""

import abc
import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from electra_keras.arrays import Arrays
from electra_keras.artifacts import RunDirectory
from electra_keras.errors import TrainingDiverged
from electra_keras.training.clock import Clock
from electra_keras.training.interrupts import Interrupts
from electra_keras.training.measures import as_floats
from electra_keras.training.pretrainer import ElectraPretrainer
from electra_keras.training.progress import Progress
from electra_keras.training.state import restore_metrics, state_arrays, weight_arrays


@dataclasses.dataclass(frozen=True)
class Session:
    """What the callbacks of one call of `fit` share.

    Attributes:
        run: where everything is written.
        progress: where everything is shown.
        clock: times the steps of a report.
        start_step: updates made before.
        num_steps: updates of the whole run.
    """

    run: RunDirectory
    progress: Progress
    clock: Clock
    start_step: int
    num_steps: int


class StepCallback(keras.callbacks.Callback, abc.ABC):
    """A callback that acts at every `every` steps and at the last one, counted over the whole run."""

    model: ElectraPretrainer

    def __init__(self, session: Session, every: int):
        super().__init__()
        self.session, self.every = session, every

    def on_train_batch_end(self, batch, logs=None):
        """Counts, and acts where the step is due."""
        step = self.session.start_step + batch + 1
        if self.is_due(step):
            self.model.sync_state()
            self.act(step)

    def is_due(self, step: int) -> bool:
        """Whether to act after this step."""
        return step % self.every == 0 or step == self.session.num_steps

    @abc.abstractmethod
    def act(self, step: int) -> None:
        """Does what the callback is for."""


class MetricsLog(StepCallback):
    """Writes a line of training metrics and stops a run that has diverged.

    Args:
        session: what all callbacks share.
        every: steps between two lines.
        resumed_state: the state of the checkpoint that the run goes on from, with what its running report had gathered.
    """

    def __init__(self, session: Session, every: int, resumed_state: Arrays | None):
        super().__init__(session, every)
        self.resumed_state = resumed_state

    def on_epoch_begin(self, epoch, logs=None):
        """Fills in the metrics that `fit` has just reset."""
        if self.resumed_state is not None:
            restore_metrics(self.model, self.resumed_state)

    def on_train_batch_end(self, batch, logs=None):
        """Moves the progress bar, then reports where a line is due."""
        self.session.progress.advance()
        super().on_train_batch_end(batch, logs)

    def act(self, step: int) -> None:
        """Reads the metrics back, the one time between two lines."""
        # Reading waits for the device, so the clock then covers all the steps of the report.
        results = as_floats(self.model.training_results())
        clock = self.session.clock
        seconds = clock.read()
        raise_if_diverged(self.model, self.session.run, step)
        line = {"step": step, **results, "learning_rate": self.learning_rate()}
        line["tokens_per_second"] = round(self.model.num_tokens() / seconds, 1)
        line["input_wait_fraction"] = round(clock.waiting_seconds / seconds, 4)
        line["training_seconds"] = round(clock.earlier_seconds + seconds, 2)
        if skipped := self.model.num_skipped_updates():
            line["skipped_updates"] = skipped
        self.session.run.append_metrics(line)
        self.session.progress.report_training(line)
        self.model.reset_metrics()
        clock.start_report()

    def learning_rate(self) -> float:
        """The rate of the update just made."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        return float(keras.ops.convert_to_numpy(optimizer.last_learning_rate()))


class Validation(StepCallback):
    """Measures the held-out examples, always with the same masks and the same random numbers."""

    def __init__(self, session: Session, every: int, batches: Iterable, num_batches: int):
        super().__init__(session, every)
        self.batches, self.num_batches = batches, num_batches

    def act(self, step: int) -> None:
        """Evaluates; the training metrics of the running report are put back afterwards."""
        self.session.clock.pause()
        running = [(variable, np.array(keras.ops.convert_to_numpy(variable.value))) for variable in self.model.metrics_variables]
        self.model.evaluate(self.batches, steps=self.num_batches, verbose=0)
        results = as_floats(self.model.test_results())
        for variable, value in running:
            variable.assign(value)
        line = {"step": step, **{f"val_{name}": value for name, value in results.items()}}
        self.session.run.append_metrics(line)
        self.session.progress.report_validation(line)
        self.session.clock.go_on()


class Checkpoints(StepCallback):
    """Saves the run at intervals, and at once when the process has been asked to leave."""

    def __init__(self, session: Session, every: int, keep: int, interrupts: Interrupts):
        super().__init__(session, every)
        self.keep, self.interrupts = keep, interrupts

    def is_due(self, step: int) -> bool:
        """At intervals, at the end, and after a signal."""
        return super().is_due(step) or self.interrupts.received is not None

    def act(self, step: int) -> None:
        """Saves, unless the run has diverged, and stops where it has been asked to."""
        self.session.clock.pause()
        raise_if_diverged(self.model, self.session.run, step)
        state = {**state_arrays(self.model), **self.session.clock.state()}
        self.session.run.save_checkpoint(step, weight_arrays(self.model), state, self.keep)
        if self.interrupts.received is not None:
            self.session.progress.say(f"{self.interrupts.received.name} at step {step}: saved. Go on with --resume true.")
            self.model.stop_training = True
        self.session.clock.go_on()


def raise_if_diverged(model: ElectraPretrainer, run: RunDirectory, step: int) -> None:
    """Raises TrainingDiverged when a step since the last report went wrong."""
    steps_in_report, first_bad = model.watched_steps()
    if not first_bad:
        return
    bad_step = step - steps_in_report + first_bad
    checkpoints = run.checkpoints()
    last_good = f"the last good checkpoint is {checkpoints[-1].folder}" if checkpoints else "there is no checkpoint yet"
    raise TrainingDiverged(
        f"The loss or its gradient became NaN or infinite at step {bad_step}; {last_good}. "
        "Try a lower optimizer.learning_rate (or muon_learning_rate), more optimizer.warmup_steps, or training.precision float32, "
        "in a new run directory."
    )
