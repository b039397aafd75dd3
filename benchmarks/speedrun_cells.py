"""One training of benchmarks/speedrun.py in a process of its own: `python speedrun_cells.py JOB.json`.

The product's own training (electra_keras.training.run) does the work. What is added: every recipe is validated on the same examples,
and every line of training metrics says how many seconds its steps took. The Keras backend is KERAS_BACKEND's.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from speedrun_architectures import build_models
from speedrun_ingredients import OtherDraws, average_weights, sampler, zero_outputs
from speedrun_plan import HELD_OUT_PACKINGS, OPENING_SHARE

from electra_keras.artifacts import Checkpoint, RunDirectory
from electra_keras.config import Config
from electra_keras.config_loading import load_config
from electra_keras.data.dataset import held_out_batches
from electra_keras.data.examples import ExampleSource, evenly_spread
from electra_keras.data.masking import Batch
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import UserError
from electra_keras.files import write_json
from electra_keras.objectives import build_objective
from electra_keras.objectives.protocol import Sampler
from electra_keras.training.interrupts import Interrupts
from electra_keras.training.measures import as_floats
from electra_keras.training.pretrainer import ElectraPretrainer
from electra_keras.training.run import Start, check_startable, compiled_pretrainer, enter_run, train, train_to_the_end, with_running_backend
from electra_keras.training.state import weight_arrays


class ChosenExamples:
    """A few examples of one or several sources, as a source, held in memory.

    Args:
        sources: they give equally many examples each, at even distances.
        num_examples: how many altogether, at most.
    """

    def __init__(self, sources: Sequence[ExampleSource], num_examples: int):
        share = min(num_examples // len(sources), *(source.num_examples for source in sources))
        chosen = [(source, evenly_spread(source.num_examples, share)) for source in sources]
        self._token_ids = np.concatenate([source.token_ids(ids) for source, ids in chosen])
        self._lengths = np.concatenate([source.lengths(ids) for source, ids in chosen])
        self.num_examples = len(self._lengths)

    def token_ids(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, sequence_length)."""
        return self._token_ids[indices]

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, 2)."""
        return self._lengths[indices]


class DataWithHeldOut(PreparedData):
    """Prepared data whose validation split has been exchanged."""

    def __init__(self, data: PreparedData, held_out: ExampleSource):
        super().__init__(data.folder, data.manifest, data.tokenizer)
        self._held_out = held_out

    def split(self, name: str):
        """Returns the split "train" of the data, or the exchanged "validation"."""
        return self._held_out if name == "validation" else super().split(name)


class TimedRun(RunDirectory):
    """A run directory whose lines of training metrics also say how long their steps took.

    A line is written once the device has finished its steps, a validation's line and a checkpoint when they are over: what lies
    between are the steps alone. Added are `seconds`, `tokens` and whether compilation is among the seconds; lines of an opening, whose
    steps differ from the rest's, say `opening`.
    """

    def __init__(self, path, model):
        super().__init__(path)
        self._model = model
        self.begin_part(is_opening=False)

    def begin_part(self, is_opening: bool) -> None:
        """Begins to count where a call of `fit`, which compiles, is about to."""
        self._marks = {"opening": True} if is_opening else {}
        self._compiles = True
        self._since = time.perf_counter()

    def append_metrics(self, line: Mapping) -> None:
        """Adds a line to metrics.jsonl."""
        if not any(name.startswith("val_") for name in line):
            seconds = time.perf_counter() - self._since
            # The callback resets the count of tokens only after the line has been written.
            line = {**line, "seconds": seconds, "tokens": self._model.num_tokens(), "has_compilation": self._compiles, **self._marks}
            self._compiles = False
        super().append_metrics(line)
        self._since = time.perf_counter()

    def save_checkpoint(self, *arguments, **named) -> Checkpoint:
        """Writes a checkpoint."""
        checkpoint = super().save_checkpoint(*arguments, **named)
        self._since = time.perf_counter()
        return checkpoint


def sha256_of_batches(batches: Iterable[Batch]) -> str:
    """Returns a hash of what is asked of the generator: inputs, positions, the tokens there and the random numbers of the draws."""
    content = hashlib.sha256()
    for x, original_ids, weights in batches:
        for array in (*(x[name] for name in sorted(x)), original_ids, weights):
            content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def train_cell(job: Mapping) -> dict:
    """Trains, or goes on with a training that was stopped, and measures the result.

    Args:
        job: config (path of a YAML file), run_dir, data (packing -> folder of prepared data), held_out_examples, and what
            speedrun_plan.Variant.beyond_configuration says.

    Returns:
        The lines of metrics.jsonl, the seconds of initialisation, the figures at the end on either packing, and a hash of
        the held-out batches.

    Raises:
        SystemExit: a signal stopped the training, which has been saved.
    """
    config = with_running_backend(load_config(job["config"]))
    prepared = {packing: PreparedData.open(folder, verify=False) for packing, folder in job["data"].items()}
    splits = {packing: prepared[packing].split("validation") for packing in HELD_OUT_PACKINGS}
    held_out = ChosenExamples([*splits.values()], job["held_out_examples"])
    data = DataWithHeldOut(prepared[config.packing.style], held_out)
    opening_packing = job.get("opening", {}).get("packing", config.packing.style)
    objective = build_objective(config.objective)
    models = build_models(objective, config, data.tokenizer.vocab_size, job.get("departures", {}))
    model = compiled_pretrainer(config, objective, models)
    if job.get("averaged"):
        average_weights(model, config)
    run = TimedRun(job["run_dir"], model)

    def batches_of(source: ExampleSource):
        return held_out_batches(source, data.tokenizer, config, job["held_out_examples"])

    def figures_on(source: ExampleSource) -> dict[str, float]:
        batches, num_batches = batches_of(source)
        model.evaluate(batches, steps=num_batches, verbose=0)
        return as_floats(model.test_results())

    with run.locked():
        initialization_seconds = train_run(run, config, model, data, job, DataWithHeldOut(prepared[opening_packing], held_out))
        if job.get("averaged"):
            # The last validation came before the average took the weights' place.
            run.append_metrics(
                {"step": config.training.num_steps, **{f"val_{name}": value for name, value in figures_on(held_out).items()}}
            )
    by_packing = {packing: figures_on(ChosenExamples([split], job["held_out_examples"])) for packing, split in splits.items()}
    return {
        "initialization_seconds": initialization_seconds,
        "lines": run.metrics(),
        "by_packing": by_packing,
        "held_out_examples": held_out.num_examples,
        "held_out_sha256": sha256_of_batches(batches_of(held_out)[0]),
        "num_parameters": sum(array.size for array in weight_arrays(model).values()),
    }


def train_run(
    run: TimedRun, config: Config, model: ElectraPretrainer, data: PreparedData, job: Mapping, opening_data: PreparedData
) -> float:
    """Trains what is left of a run, and returns the seconds that its starting values, or reading its checkpoint, took.

    Args:
        run: new, or stopped.
        config: of the whole run.
        model: trained in place.
        data: what it reads, and is validated on.
        job: as for `train_cell`.
        opening_data: what the first steps read, where the job has an opening.

    Raises:
        SystemExit: a signal stopped the training, which has been saved.
    """
    check_startable(run, config, resume=True)
    started = time.perf_counter()
    start = enter_run(run, config, model, data, print)
    if start.state is None and job.get("zero_outputs"):
        zero_outputs(model.models)
    opening = job.get("opening", {})
    draw = sampler(opening["draws"], opening_data) if "draws" in opening else None
    initialization_seconds = time.perf_counter() - started
    steps = round(OPENING_SHARE * config.training.num_steps)
    if opening and start.step < steps:
        training = dataclasses.replace(config.training, num_steps=steps, batch_size=opening.get("batch_size", config.training.batch_size))
        start = train_opening(run, dataclasses.replace(config, training=training), model, opening_data, start, draw)
    if start.step == config.training.num_steps:
        # A checkpoint holds the weights themselves; where they are averaged, `fit` ends by this, and there is nothing left to fit.
        model.optimizer.finalize_variable_values(model.trainable_variables)
    run.begin_part(is_opening=False)
    train_to_the_end(run, config, model, data, start)
    return initialization_seconds


def train_opening(run: TimedRun, config: Config, model: ElectraPretrainer, data: PreparedData, start: Start, draw: Sampler | None) -> Start:
    """Trains what is left of a run's first steps, which differ from the rest's, and returns where the rest begins.

    Args:
        run: has been entered.
        config: of these steps; the model's rates are those of the whole run.
        model: trained in place, and left with its own objective.
        data: what these steps read.
        start: where training begins.
        draw: draws the replacements in the model's place, where it is not None.

    Raises:
        SystemExit: a signal stopped the training, which has been saved.
    """
    objective = model.objective
    if draw is not None:
        model.objective = OtherDraws(objective.config, draw)
    run.begin_part(is_opening=True)
    interrupts = Interrupts()
    train(run, config, model, data, start, interrupts)
    if interrupts.received is not None:
        raise SystemExit(128 + interrupts.received)
    model.objective = objective
    # Keras would go on with the function that it has traced.
    model.make_train_function(force=True)
    return Start(config.training.num_steps, start.clock)


def main() -> None:
    """Runs the job and writes its result where the job says."""
    job = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        result = train_cell(job)
    except UserError as error:
        raise SystemExit(f"speedrun_cells.py: {error}") from None
    write_json(job["result"], result)


if __name__ == "__main__":
    main()
