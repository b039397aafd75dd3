"""Compares the discriminators that benchmarks/speedrun.py has trained on the same replaced tokens.

    python benchmarks/speedrun_detection.py --results benchmarks/results/speedrun.json --out benchmarks/results/speedrun_detection.json
        [--work_dir runs/speedrun] [--generators paper modern] [--cells 'builtin/*/3m/*' ...]

The speed run measures every discriminator against its own generator, and the weaker that is, the easier its replacements are to find. Here
one generator of each recipe, that of the longest training with the lowest seed, fills the masks of the held-out examples once, and all
discriminators of the corpus look at the results. The trainings must lie where the speed run has left them.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.metrics import log_loss
from speedrun_plan import HELD_OUT_PACKINGS, VARIANTS, matching
from speedrun_results import read_cells

from electra_keras.artifacts import RunDirectory
from electra_keras.backend import choose_backend
from electra_keras.data.dataset import held_out_batches
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import UserError
from electra_keras.files import write_json
from electra_keras.metrics import detection_metrics

FIGURES = ("detection_auc", "average_precision", "detection_loss")
Rows = Mapping[str, Mapping[str, Any]]


class Corrupted(NamedTuple):
    """A batch of held-out examples after a generator: a discriminator's inputs, and float32 (batch, length), 1 where replaced."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray


def generator_cell(rows: Rows, corpus: str, variant: str) -> str:
    """Returns the name of a variant's longest training on a corpus, of several the one with the lowest seed.

    Raises:
        UserError: there is none.
    """
    names = [name for name, row in rows.items() if (row["corpus"], row["variant"]) == (corpus, variant)]
    if not names:
        raise UserError(f"The results hold no training of {variant} on {corpus} whose generator could be taken.")
    return min(names, key=lambda name: (-rows[name]["minutes"], rows[name]["seed"]))


def open_cell(work_dir: pathlib.Path, name: str, row: Mapping[str, Any]) -> RunDirectory:
    """Opens a training of the speed run.

    Raises:
        UserError: what lies there is not what the row was measured on.
    """
    run = RunDirectory(work_dir / "cells" / name / "run")
    if not run.exists():
        raise UserError(f"{run.path} holds no training. Name the --work_dir of {name}, or measure it again.")
    found = run.config.training
    if not run.is_finished or (found.num_steps, found.seed) != (row["num_steps"], row["seed"]):
        raise UserError(f"{run.path} is not the training that the results tell of ({row['num_steps']} steps). Measure {name} again.")
    return run


def build_models(run: RunDirectory, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a training's models with their trained weights, in float32."""
    import speedrun_architectures

    from electra_keras.modeling.weights import load_named_weights
    from electra_keras.objectives import build_objective

    config = dataclasses.replace(run.config, training=dataclasses.replace(run.config.training, precision="float32"))
    departures = VARIANTS[row["variant"]].beyond_configuration().get("departures", {})
    models = speedrun_architectures.build_models(build_objective(config.objective), config, run.tokenizer().vocab_size, departures)
    load_named_weights(models, run.final_weights())
    return models


def corrupt_held_out(run: RunDirectory, data_dir: pathlib.Path, row: Mapping[str, Any]) -> list[Corrupted]:
    """Returns the speed run's held-out examples with a run's generator's replacements.

    Args:
        run: gives the generator, and how examples are masked.
        data_dir: folders of prepared data, by packing.
        row: what the results say of the run.

    Raises:
        UserError: the prepared data gives other examples, masks or random numbers than the run was validated on.
    """
    from keras.ops import convert_to_numpy
    from speedrun_cells import ChosenExamples, sha256_of_batches

    from electra_keras.modeling.kernels.forward import forward_function
    from electra_keras.objectives.masked_tokens import corrupt, sample_replacements
    from electra_keras.objectives.protocol import Batch

    splits = [PreparedData.open(data_dir / packing, verify=False).split("validation") for packing in HELD_OUT_PACKINGS]
    num_examples = row["held_out_examples"]
    batches = [*held_out_batches(ChosenExamples(splits, num_examples), run.tokenizer(), run.config, num_examples)[0]]
    if sha256_of_batches(batches) != row["held_out_sha256"]:
        raise UserError(f"{data_dir} gives other held-out examples than {run.path} was validated on. Measure it again.")
    predict = forward_function(build_models(run, row)["generator"])
    corrupted = []
    for x, original_ids, weights in batches:
        inputs = {name: x[name] for name in ("token_ids", "segment_ids", "padding_mask")}
        logits = predict({**inputs, "mask_positions": x["mask_positions"]})
        batch = Batch.from_data((x, original_ids, weights))
        token_ids, labels = corrupt(batch, sample_replacements(logits, run.config.objective.temperature, batch))
        corrupted.append(Corrupted({**inputs, "token_ids": convert_to_numpy(token_ids)}, convert_to_numpy(labels)))
    return corrupted


def detect(run: RunDirectory, row: Mapping[str, Any], texts: Mapping[str, Sequence[Corrupted]]) -> dict[str, dict[str, float]]:
    """Returns, for every generator's texts, how well a run's discriminator finds the replaced tokens."""
    from electra_keras.modeling.kernels.forward import forward_function

    predict = forward_function(build_models(run, row)["discriminator"])
    found = {}
    for generator, batches in texts.items():
        real = [batch.inputs["padding_mask"] > 0 for batch in batches]
        logits = np.concatenate([predict(batch.inputs)[mask] for batch, mask in zip(batches, real, strict=True)])
        labels = np.concatenate([batch.labels[mask] for batch, mask in zip(batches, real, strict=True)])
        probabilities = expit(logits.astype(np.float64))
        figures = {**detection_metrics(labels, probabilities), "detection_loss": float(log_loss(labels, probabilities))}
        found[generator] = {name: round(figures[name], 4) for name in FIGURES}
    return found


def compare(rows: Rows, corpus: str, generators: Sequence[str], work_dir: pathlib.Path) -> dict[str, Any]:
    """Returns a corpus' generators, and the figures of all its discriminators."""
    cells = {variant: generator_cell(rows, corpus, variant) for variant in generators}
    texts = {}
    for variant, name in cells.items():
        run = open_cell(work_dir, name, rows[name])
        texts[variant] = corrupt_held_out(run, work_dir / "data" / corpus, rows[name])
    ours = {name: row for name, row in rows.items() if row["corpus"] == corpus}
    return {
        "generators": cells,
        "discriminators": {name: detect(open_cell(work_dir, name, row), row, texts) for name, row in ours.items()},
    }


def table(result: Mapping[str, Any], generators: Sequence[str]) -> str:
    """Formats the figures as Markdown."""
    heads = [f"{figure} on {generator}" for generator in generators for figure in FIGURES]
    lines = ["| discriminator | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    for corpus in result.values():
        for name, found in corpus["discriminators"].items():
            figures = [f"{found[generator][figure]:.4f}" for generator in generators for figure in FIGURES]
            lines.append(f"| {name} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures all trainings of the results, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, help="JSON file of speedrun.py")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--work_dir", default="runs/speedrun", help="speedrun.py's prepared data and trainings")
    parser.add_argument("--generators", nargs="+", default=["paper", "modern"], help="variants whose generators make the replacements")
    parser.add_argument("--cells", nargs="+", default=[], help="shell patterns of names: the trainings to compare; all by default")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except UserError as error:
        raise SystemExit(f"speedrun_detection.py: {error}") from None


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for.

    Raises:
        UserError: something that was given cannot be used.
    """
    choose_backend(None, None)
    measured = read_cells(pathlib.Path(arguments.results))
    if not measured:
        raise UserError(f"{arguments.results} holds no training. Measure some with speedrun.py --out {arguments.results}.")
    rows = {name: measured[name] for name in matching([*measured], arguments.cells)}
    corpora = dict.fromkeys(row["corpus"] for row in rows.values())
    result = {corpus: compare(rows, corpus, arguments.generators, pathlib.Path(arguments.work_dir)) for corpus in corpora}
    write_json(arguments.out, result)
    print(table(result, arguments.generators))


if __name__ == "__main__":
    main()
