"""Pre-trains a tiny ELECTRA on a text file with plain Keras: build, compile, fit.

In the project's folder: .venv/bin/python examples/pretrain_from_script.py my_text.txt
"""

import sys

from electra_keras.backend import choose_backend

choose_backend(None, None)  # KERAS_BACKEND, or jax; before keras is imported

from electra_keras.config_loading import load_config  # noqa: E402
from electra_keras.data.dataset import held_out_batches, training_batches  # noqa: E402
from electra_keras.data.prepare import prepare  # noqa: E402
from electra_keras.objectives import build_objective  # noqa: E402
from electra_keras.training.optimizers import build_optimizer  # noqa: E402
from electra_keras.training.pretrainer import ElectraPretrainer  # noqa: E402


def main(text_file: str, data_dir: str = "data/from_script", num_steps: int = 100) -> dict[str, list[float]]:
    """Returns the history that `fit` returns."""
    overrides = {"corpus.files": [text_file], "corpus.validation_fraction": 0.1, "training.batch_size": 16}
    config = load_config("configs/pretrain/tiny.yaml", overrides)
    data = prepare(config, data_dir)

    objective = build_objective(config.objective)
    models = objective.build_models(config, data.tokenizer.vocab_size)
    model = ElectraPretrainer(objective, models)
    model.compile(optimizer=build_optimizer(config.optimizer, models, num_steps))

    train = training_batches(data.split("train"), data.tokenizer, batch_size=16, rates=config.masking.train, seed=0)
    held_out, held_out_steps = held_out_batches(data.split("validation"), data.tokenizer, config, num_examples=128)
    return model.fit(train, steps_per_epoch=num_steps, shuffle=False, validation_data=held_out, validation_steps=held_out_steps).history


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(sys.argv[1])
