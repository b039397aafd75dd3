"""The model that training trains: what its steps hand to Keras, and what it cannot train."""

import dataclasses

import keras
import pytest
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.objectives import build_objective
from electra_keras.objectives.protocol import Phase
from electra_keras.training.pretrainer import ElectraPretrainer

pytestmark = pytest.mark.backend


def pretrainer(**arguments):
    config = tiny_config()
    objective = build_objective(config.objective)
    model = ElectraPretrainer(objective, objective.build_models(config, VOCAB_SIZE), **arguments)
    model.compile(optimizer="sgd", run_eagerly=True)
    return model


@pytest.mark.parametrize("logs_every_batch", [True, False])
def test_steps_hand_keras_measured_values_only_where_it_shall_read_them(logs_every_batch):
    model = pretrainer(logs_every_batch=logs_every_batch)
    logged = {"train": [], "test": []}

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            logged["train"].append(set(logs))

        def on_test_batch_end(self, batch, logs=None):
            logged["test"].append(set(logs))

    model.fit((batch for batch in [random_batch()]), steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[Watch()])
    model.evaluate((batch for batch in [random_batch()]), steps=1, verbose=0, callbacks=[Watch()])
    measured = {"loss", "generator_loss", "generator_accuracy", "detection_loss", "replaced_fraction"}
    if logs_every_batch:
        assert logged == {"train": [measured | {"gradient_norm"}], "test": [measured | {"detection_auc", "precision", "recall"}]}
    else:
        # TensorFlow's steps have to return something; this is a constant.
        needed = {"updates"} if keras.backend.backend() == "tensorflow" else set()
        assert logged == {"train": [needed], "test": [needed]}
    assert set(model.test_results()) == measured - {"loss"} | {"detection_auc", "precision", "recall"}


def test_an_objective_of_two_phases_is_refused(monkeypatch):
    objective = build_objective(tiny_config().objective)
    phase = Phase("half", {"generator_loss": 1.0}, share=0.5)
    monkeypatch.setattr(type(objective), "phases", lambda self: (phase, phase))
    with pytest.raises(NotImplementedError, match="electra has 2"):
        ElectraPretrainer(objective, {})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"share": 0.5}, "share"),
        ({"trainable": ("discriminator/",)}, "trainable"),
        ({"on_entry": print}, "on_entry"),
        ({"share": 0.5, "trainable": ("generator/",)}, "share, trainable"),
    ],
)
def test_a_phase_that_asks_for_more_than_losses_is_refused(changes, named, monkeypatch):
    objective = build_objective(tiny_config().objective)
    phase = dataclasses.replace(objective.phases()[0], **changes)
    monkeypatch.setattr(type(objective), "phases", lambda self: (phase,))
    with pytest.raises(NotImplementedError, match=f"electra's has {named} of its own"):
        ElectraPretrainer(objective, {})
