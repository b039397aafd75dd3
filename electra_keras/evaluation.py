"""A finished run on held-out text: how well the generator predicts and the discriminator detects."""

import os
import tempfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
from scipy.special import expit

from electra_keras.artifacts import RunDirectory
from electra_keras.config import Config
from electra_keras.data.dataset import held_out_batches
from electra_keras.data.prepare import prepare_files
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import RunError
from electra_keras.metrics import detection_metrics
from electra_keras.modeling.weights import load_named_weights
from electra_keras.objectives import build_objective
from electra_keras.objectives.masked_tokens import sample_replacements
from electra_keras.objectives.protocol import Batch, Models, Objective


class Measurer(keras.Model):
    """An objective's measurements as a model, so that `predict_on_batch` compiles them on every backend."""

    def __init__(self, objective: Objective, models: Models):
        super().__init__(name="measurer")
        self.objective = objective
        self.models = dict(models)
        self.built = True

    def call(self, inputs):
        """Returns the sums and counts of a batch, and the detections token by token."""
        batch = Batch.from_data((inputs["x"], inputs["y"], inputs["sample_weight"]))
        measurement = self.objective.measure(self.models, batch, sample_replacements, self.objective.phases()[-1], False)
        outputs = {"sums": measurement.sums, "counts": self.objective.counts(batch)}
        return outputs if measurement.detections is None else {**outputs, "detections": measurement.detections._asdict()}


def evaluate(
    run_dir: str | os.PathLike,
    files: Sequence[str] | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    num_examples: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, float | None]:
    """Measures a run on its held-out documents, or on files of the user's.

    Masks and replacements are the same for every run that is evaluated on the same examples: fixed seeds, and the
    configuration's masking.validation.

    Args:
        run_dir: a run, finished or with a checkpoint.
        files: paths and globs to measure on in place of the run's own held-out documents.
        data_dir: where the run's prepared corpus is, if not inside the run directory.
        num_examples: examples to measure on, at most, at even distances; all by default.
        report: takes lines for the user.

    Returns:
        generator_loss (nats a masked token) and generator_accuracy; detection_loss (nats a token) and replaced_fraction; the
        exact detection_auc, precision and recall at probability 0.5, and what else `detection_metrics` gives. Detection
        figures are None for objectives that detect nothing. num_tokens and num_examples say what it was measured on.

    Raises:
        UserError: the run or a file cannot be used.
    """
    run = RunDirectory.open(run_dir)
    config, tokenizer = run.config, run.tokenizer()
    objective = build_objective(config.objective)
    models = objective.build_models(config, tokenizer.vocab_size)
    load_named_weights(models, run.final_weights())
    measurer = Measurer(objective, models)
    if not files and data_dir is None and not run.data_path.exists():
        raise RunError(f"{run.path} holds no prepared text to measure on. Name some with --files, or the prepared corpus with --data_dir.")
    if not files:
        data = PreparedData.open(data_dir or run.data_path)
        if data.tokenizer.fingerprint != tokenizer.fingerprint:
            raise RunError(f"{data.folder} was prepared with another vocabulary than {run.path} was trained with. Name the run's own data.")
        if data.sequence_length > config.model.max_positions:
            raise RunError(
                f"{data.folder} holds sequences of {data.sequence_length:,} tokens, and the model of {run.path} takes at most "
                f"{config.model.max_positions:,}. Prepare it with --packing.sequence_length {config.model.max_positions}, "
                "or name its text with --files."
            )
        return _measure(measurer, data, config, num_examples)
    with tempfile.TemporaryDirectory(prefix="electra-keras-") as folder:
        return _measure(measurer, prepare_files(list(files), config, tokenizer, folder, report), config, num_examples)


def _measure(measurer: Measurer, data: PreparedData, config: Config, num_examples: int | None) -> dict[str, float | None]:
    split = data.split("validation")
    num_examples = min(num_examples or split.num_examples, split.num_examples)
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    labels, logits, num_tokens = [], [], 0
    batches, _ = held_out_batches(split, data.tokenizer, config, num_examples)
    for x, y, sample_weight in batches:
        num_tokens += int(x["padding_mask"].sum())
        outputs = measurer.predict_on_batch({"x": x, "y": y, "sample_weight": sample_weight})
        for totals, values in ((sums, outputs["sums"]), (counts, outputs["counts"])):
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        if "detections" in outputs:
            counted = outputs["detections"]["weights"] > 0
            labels.append(outputs["detections"]["labels"][counted])
            logits.append(outputs["detections"]["logits"][counted])
    figures: dict[str, float | None] = {name: sums[name] / counts[count] for name, count in measurer.objective.quantities.items()}
    figures |= dict.fromkeys(("detection_auc", "detection_loss", "precision", "recall"), None) if not logits else {}
    if logits:
        probabilities = expit(np.concatenate(logits).astype(np.float64))
        figures |= detection_metrics(np.concatenate(labels), probabilities)
    return {**figures, "num_examples": num_examples, "num_tokens": num_tokens}
