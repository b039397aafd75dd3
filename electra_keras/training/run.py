"""From a configuration to a finished run directory."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable

import keras

from electra_keras.arrays import Arrays
from electra_keras.artifacts import CONFIG, RunDirectory
from electra_keras.config import Config
from electra_keras.config_loading import config_differences
from electra_keras.data.dataset import held_out_batches, training_batches
from electra_keras.data.prepare import prepare
from electra_keras.data.prepared import PreparedData
from electra_keras.data.tokenizer import SETTINGS_FILE, VOCABULARY_FILE
from electra_keras.errors import RunError, ShardError, TokenizerError
from electra_keras.objectives import build_objective
from electra_keras.objectives.protocol import Models, Objective
from electra_keras.training.callbacks import Checkpoints, MetricsLog, Session, Validation
from electra_keras.training.clock import Clock, TimedBatches
from electra_keras.training.initialization import check_start, initialize
from electra_keras.training.interrupts import Interrupts
from electra_keras.training.kept_memory import keep_freed_memory
from electra_keras.training.optimizers import build_optimizer
from electra_keras.training.pretrainer import ElectraPretrainer
from electra_keras.training.progress import Progress
from electra_keras.training.state import restore, weight_arrays

# What a resumed run may set anew: its length, what it reports, what it keeps.
RESUMABLE = (
    "training.num_steps",
    "training.log_every_steps",
    "training.validate_every_steps",
    "training.validation_examples",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
)


def pretrain(
    config: Config,
    run_dir: str | os.PathLike,
    *,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    report: Callable[[str], None] = print,
) -> RunDirectory:
    """Prepares the corpus, trains, and leaves a finished run directory.

    Args:
        config: the run's configuration.
        run_dir: where everything goes; a new or empty folder unless `resume`.
        resume: goes on where the run stopped, or starts it where there is none; a finished one stays as it is.
        data_dir: where the prepared corpus is or goes; by default where the run has it, for a new one inside its directory.
        report: takes lines for the user.

    Returns:
        The run directory, finished unless a signal stopped the run.

    Raises:
        UserError: something the user gave cannot be used.
        SystemExit: SIGTERM or SIGINT arrived; the run has been saved.
    """
    run = RunDirectory(run_dir)
    with run.locked():
        return _pretrain_alone(run, with_running_backend(config), resume, data_dir, report)


def _pretrain_alone(
    run: RunDirectory, config: Config, resume: bool, data_dir: str | os.PathLike | None, report: Callable[[str], None]
) -> RunDirectory:
    """Does what `pretrain` promises, in a run directory that no other process trains in."""
    check_startable(run, config, resume)
    if run.exists() and is_done(run, config):
        report(f"{run.path} is finished: {config.training.num_steps:,} steps. Nothing to do; raise training.num_steps to train on.")
        return run
    if not run.exists():
        # Before the corpus is prepared, which may take an hour.
        check_start(config)
    data_path = run.data_path if data_dir is None else pathlib.Path(data_dir)
    data = prepared_data(run, config, data_path, report)
    model = build_pretrainer(config, data.tokenizer.vocab_size)
    train_to_the_end(run, config, model, data, enter_run(run, config, model, data, report))
    report(f"Finished: {run.path}")
    return run


def is_done(run: RunDirectory, config: Config) -> bool:
    """Whether a run has made all steps that the configuration asks for, and its weights are whole."""
    return run.is_finished and run.config.training.num_steps == config.training.num_steps and run.weights_are_whole()


def prepared_data(run: RunDirectory, config: Config, folder: pathlib.Path, report: Callable[[str], None]) -> PreparedData:
    """Returns what a run is trained on; one that goes on keeps the data that it was started with, whatever has become of the corpus.

    Where that data is gone or damaged it is made again, and said to be other data where it is.
    """
    if not run.exists():
        return prepare(config, folder, report)
    started_with = run.description.get("data")
    with contextlib.suppress(ShardError, TokenizerError):
        data = PreparedData.open(folder)
        # Runs of earlier versions do not say what they were started with; their own folder holds nothing else.
        if data.manifest["input_hash"] == started_with or (started_with is None and folder == run.data_path):
            report(f"Reusing the prepared data in {folder}: the run was started with it.")
            return data
    data = prepare(config, folder, report)
    if started_with not in (None, data.manifest["input_hash"]):
        report(f"The corpus has changed since {run.path} was started: from here on the run sees other text.")
    return data


def with_running_backend(config: Config) -> Config:
    """Returns the configuration with the backend that is running, which is what config.yaml records."""
    return dataclasses.replace(config, backend=keras.backend.backend())


def check_startable(run: RunDirectory, config: Config, resume: bool) -> None:
    """Raises RunError where a run directory cannot take this run."""
    if not run.exists():
        # A start that was killed leaves temporary files, prepared data, and a run that is not yet one.
        leftovers = {run.data_path.name, CONFIG, VOCABULARY_FILE, SETTINGS_FILE}
        names = [path.name for path in run.path.iterdir()] if run.path.is_dir() else []
        others = sorted(name for name in names if name not in leftovers and not name.startswith("."))
        if others:
            raise RunError(f"{run.path} is not empty and holds no run ({', '.join(others[:3])}). Choose a new folder.")
        return
    RunDirectory.open(run.path)
    if not resume:
        raise RunError(f"{run.path} already holds a run. Add --resume true to go on with it, or choose another folder.")
    if run.is_finished and not run.checkpoints() and (run.description.get("kind") == "imported" or not is_done(run, config)):
        raise RunError(
            f"{run.path} has trained weights, but no checkpoint of a training to go on with. "
            f"Start a new run from them: --model.init_from {run.path}, and another --run_dir."
        )
    old = run.config
    differences = [line for line in config_differences(old, config) if not line.startswith(tuple(f"{name}:" for name in RESUMABLE))]
    if differences:
        raise RunError(
            f"{run.path} was started with another configuration ({'; '.join(differences)}). "
            f"Use the old values (--config {run.path / CONFIG} has them all), or another folder."
        )
    checkpoints = run.checkpoints()
    if checkpoints and checkpoints[-1].step > config.training.num_steps:
        raise RunError(
            f"{run.path} has already made {checkpoints[-1].step} steps, more than training.num_steps {config.training.num_steps}; "
            "num_steps can only be raised."
        )


def build_pretrainer(config: Config, vocab_size: int) -> ElectraPretrainer:
    """Builds and compiles the model that `fit` trains."""
    objective = build_objective(config.objective)
    return compiled_pretrainer(config, objective, objective.build_models(config, vocab_size))


def compiled_pretrainer(config: Config, objective: Objective, models: Models) -> ElectraPretrainer:
    """Returns the model that `fit` trains, made of models that have been built."""
    model = ElectraPretrainer(
        objective,
        models,
        gradient_accumulation_steps=config.training.gradient_accumulation_steps,
        logs_every_batch=False,
        seed=config.training.seed,
    )
    optimizer = build_optimizer(config.optimizer, models, config.training.num_steps)
    if config.training.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training begins.

    Attributes:
        step: updates made before.
        clock: what the steps before have taken.
        state: the checkpoint's training state, None for a fresh start.
    """

    step: int = 0
    clock: Clock = dataclasses.field(default_factory=Clock)
    state: Arrays | None = None


def enter_run(run: RunDirectory, config: Config, model: ElectraPretrainer, data: PreparedData, report: Callable[[str], None]) -> Start:
    """Creates the run directory, or puts the model where the run's newest checkpoint is."""
    if not run.exists():
        initialize(model.models, config, data, report)
        elsewhere = None if data.folder == run.data_path else os.path.abspath(data.folder)
        description = {"kind": "pretraining", "data": data.manifest["input_hash"], "data_dir": elsewhere}
        RunDirectory.create(run.path, config, data.tokenizer, description)
        return Start()
    if run.tokenizer().fingerprint != data.tokenizer.fingerprint:
        raise RunError(f"The corpus now has another vocabulary than {run.path} was started with. Restore it, or start a new run.")
    checkpoint = run.newest_checkpoint(report)
    # Only RESUMABLE fields are left. Of the length the learning rate depends too, so that nobody should change it unawares.
    if changes := config_differences(run.config, config):
        report(f"Changed for the rest of {run.path}: {'; '.join(changes)}.")
    run.reopen(config)
    if checkpoint is None:
        initialize(model.models, config, data, report)
        run.cut_metrics(0)
        return Start()
    state = checkpoint.state()
    clock = Clock.from_state(state)
    restore(model, checkpoint.weights(), state)
    run.cut_metrics(checkpoint.step)
    report(f"Going on from step {checkpoint.step:,} of {config.training.num_steps:,}.")
    return Start(checkpoint.step, clock, state)


def train_to_the_end(run: RunDirectory, config: Config, model: ElectraPretrainer, data: PreparedData, start: Start) -> None:
    """Trains what is left of a run that has been entered, and marks it as finished.

    Raises:
        TrainingDiverged: a step went wrong.
        SystemExit: SIGTERM or SIGINT arrived; the run has been saved.
    """
    interrupts = Interrupts()
    if start.step < config.training.num_steps:
        train(run, config, model, data, start, interrupts)
    if interrupts.received is not None:
        raise SystemExit(128 + interrupts.received)
    run.finish(weight_arrays(model))


def train(run: RunDirectory, config: Config, model: ElectraPretrainer, data: PreparedData, start: Start, interrupts: Interrupts) -> None:
    """Calls `fit` for the steps that are left."""
    training = config.training
    progress = Progress(start.step, training.num_steps)
    session = Session(run, progress, start.clock, start.step, training.num_steps)
    batches = training_batches(
        data.split("train"),
        data.tokenizer,
        batch_size=training.batch_size,
        rates=config.masking.train,
        seed=training.seed,
        start_step=start.step,
    )
    held_out = held_out_batches(data.split("validation"), data.tokenizer, config, training.validation_examples)
    callbacks = [
        MetricsLog(session, training.log_every_steps, start.state),
        Validation(session, training.validate_every_steps, *held_out),
        Checkpoints(session, training.checkpoint_every_steps, training.keep_checkpoints, interrupts),
    ]
    # After the data are prepared, whose memory goes back.
    keep_freed_memory()
    with interrupts.listening(), progress.running():
        session.clock.go_on()
        model.fit(
            TimedBatches(batches, start.clock),
            steps_per_epoch=training.num_steps - start.step,
            epochs=1,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        )
