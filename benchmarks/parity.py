"""Trains the demo's model in float32 on the three backends from the same weights, data and replacements, and compares the losses.

    python benchmarks/parity.py --out benchmarks/results/parity.json [--steps 50]

The replacements are given by the data's random numbers alone, so that a rounding of the logits cannot change a token.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from machine import describe

from electra_keras.backend import BACKENDS
from electra_keras.files import write_json

CONFIG = "configs/pretrain/tiny.yaml"


def losses(data_dir: str, weights_file: pathlib.Path, num_steps: int) -> list[float]:
    """Returns the loss of every step under the running backend.

    Args:
        data_dir: prepared data, or where it goes.
        weights_file: the starting weights, safetensors; the first backend writes it. Initialising anew would not do: singular vectors
            of near singular values depend on the number of threads that a backend leaves to the linear algebra.
        num_steps: updates to make.
    """
    from keras import ops

    from electra_keras.arrays import load_arrays, save_arrays
    from electra_keras.config_loading import load_config
    from electra_keras.data.dataset import training_batches
    from electra_keras.data.prepare import prepare
    from electra_keras.modeling.weights import load_named_weights, named_weights
    from electra_keras.objectives import build_objective
    from electra_keras.training.initialization import initialize
    from electra_keras.training.optimizers import build_optimizer
    from electra_keras.training.pretrainer import ElectraPretrainer

    config = load_config(CONFIG, {"model.dropout": 0.0, "model.attention_dropout": 0.0, "training.precision": "float32"})
    data = prepare(config, data_dir, lambda line: None)
    objective = build_objective(config.objective)
    models = objective.build_models(config, data.tokenizer.vocab_size)
    if weights_file.exists():
        load_named_weights(models, load_arrays(weights_file))
    else:
        initialize(models, config, data)
        save_arrays(weights_file, {name: ops.convert_to_numpy(variable.value) for name, variable in named_weights(models).items()})
    num_words = data.tokenizer.vocab_size - len(data.tokenizer.special_ids)

    def injected(logits, temperature, batch):
        return ops.cast(len(data.tokenizer.special_ids) + ops.floor(batch.sample_uniforms * num_words), "int32")

    model = ElectraPretrainer(objective, models, sampler=injected)
    model.compile(optimizer=build_optimizer(config.optimizer, models, config.training.num_steps))
    batches = training_batches(
        data.split("train"), data.tokenizer, batch_size=config.training.batch_size, rates=config.masking.train, seed=config.training.seed
    )
    history = []
    for _, (x, y, sample_weight) in zip(range(num_steps), batches, strict=False):
        model.reset_metrics()
        history.append(float(model.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)["loss"]))
    return history


def main() -> None:
    """Runs every backend in a process of its own and writes the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--data_dir")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one = pathlib.Path(arguments.one)
        history = losses(arguments.data_dir, one.with_name("weights.safetensors"), arguments.steps)
        one.write_text(json.dumps(history), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        data_dir = arguments.data_dir or str(pathlib.Path(folder) / "data")
        curves = {}
        for backend in BACKENDS:
            part = pathlib.Path(folder) / f"{backend}.json"
            command = [sys.executable, __file__, "--out", arguments.out, "--steps", str(arguments.steps), "--data_dir", data_dir]
            subprocess.run([*command, "--one", str(part)], check=True, env={**os.environ, "KERAS_BACKEND": backend})
            curves[backend] = json.loads(part.read_text(encoding="utf-8"))
    spread = [(max(values) - min(values)) / min(values) for values in zip(*curves.values(), strict=True)]
    result = {
        "machine": describe(),
        "config": CONFIG,
        "first_loss_relative_spread": spread[0],
        f"loss_after_{arguments.steps}_steps_relative_spread": spread[-1],
        "largest_relative_spread": max(spread),
        "losses": curves,
    }
    write_json(arguments.out, result)
    print({name: value for name, value in result.items() if "spread" in name})


if __name__ == "__main__":
    main()
