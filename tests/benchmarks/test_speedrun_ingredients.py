"""What the speed run's cells do beyond the configuration: draws by counts, zeros, averages, other encoders, openings that can be killed."""

import dataclasses
import os
import pathlib

import keras
import numpy as np
import pytest
from witnesses.tiny import LENGTH, VOCAB_SIZE, random_batch, tiny_config

from electra_keras.artifacts import RunDirectory
from electra_keras.config_loading import save_config
from electra_keras.errors import RunError
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives.protocol import Batch
from electra_keras.training import callbacks
from electra_keras.training.run import build_pretrainer
from electra_keras.training.state import weight_arrays

pytestmark = pytest.mark.backend

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


class Rows:
    """Examples in memory."""

    def __init__(self, rows):
        self.rows, self.num_examples = np.asarray(rows, np.int32), len(rows)

    def token_ids(self, indices):
        return self.rows[indices]


def test_replacements_are_what_followed_the_left_neighbour_as_often_as_it_did():
    from speedrun_ingredients import FollowerDraws

    # Behind 5 stand 6, 7 and 6; nothing stands behind 9; 2 and 3 open and close an example and are not drawn.
    draw = FollowerDraws(Rows([[2, 5, 6, 5, 7, 3], [2, 8, 5, 6, 9, 3]]), 10, special_ids=(0, 1, 2, 3))
    uniforms = np.arange(3) / 3 + 1e-3
    rows = np.array([[2, 5, 4, 4, 4, 4, 4], [2, 9, 4, 4, 4, 4, 4]], np.int32)
    x = {
        "token_ids": rows,
        "segment_ids": np.zeros_like(rows),
        "padding_mask": np.ones_like(rows),
        "mask_positions": np.full((2, 3), 2, np.int32),
        "sample_uniforms": np.stack([uniforms, uniforms]).astype(np.float32),
    }
    batch = Batch.from_data((x, np.zeros((2, 3), np.int32), np.ones((2, 3), np.float32)))
    drawn = keras.ops.convert_to_numpy(draw(None, 1.0, batch))
    assert sorted(drawn[0]) == [6, 6, 7]
    # Any of the eight: behind 2 stand 5 and 8, behind 5 as above, behind 6 stand 5 and 9, behind 8 stands 5.
    assert list(drawn[1]) == [5, 6, 5]
    almost_one = np.full((2, 3), np.nextafter(np.float32(1), np.float32(0)))
    last = batch._replace(sample_uniforms=keras.ops.convert_to_tensor(almost_one))
    assert keras.ops.convert_to_numpy(draw(None, 1.0, last)).tolist() == [[6] * 3, [5] * 3]


def test_other_draws_are_those_of_training_alone():
    from speedrun_ingredients import OtherDraws, hot_draws

    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    batch = Batch.from_data(random_batch())
    temperatures = []

    def sampler(logits, temperature, batch):
        temperatures.append(temperature)
        return batch.original_ids

    objective = OtherDraws(model.objective.config, lambda logits, temperature, batch: sampler(logits, 7.0, batch))
    for training in (True, False):
        objective.measure(model.models, batch, sampler, objective.phases()[0], training)
    assert temperatures == [7.0, 1.0]
    # At temperature 2 logits of (2 log 3, 0) give 3 to 1: the quarter from 0.75 on draws the second token.
    uniforms = np.array([[0.1, 0.74, 0.76]], np.float32)
    logits = keras.ops.convert_to_tensor(np.tile(np.float32([2 * np.log(3.0), 0.0]), (1, 3, 1)))
    drawn = hot_draws(logits, 1.0, batch._replace(sample_uniforms=keras.ops.convert_to_tensor(uniforms)))
    assert keras.ops.convert_to_numpy(drawn).tolist() == [[0, 0, 1]]


def test_with_outputs_of_zero_no_token_sees_another():
    from speedrun_ingredients import zero_outputs

    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    x = random_batch(batch_size=1)[0]
    inputs = {name: x[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    other = {**inputs, "token_ids": np.where(np.arange(LENGTH) == 3, 6 + (inputs["token_ids"] == 6), inputs["token_ids"])}

    def differences():
        discriminator = model.models["discriminator"]
        return np.abs(keras.ops.convert_to_numpy(discriminator(inputs)) - keras.ops.convert_to_numpy(discriminator(other)))[0]

    assert (differences() > 0).all()
    before = weight_arrays(model)
    zero_outputs(model.models)
    assert differences()[3] > 0 and not np.delete(differences(), 3).any()
    after = weight_arrays(model)
    zeroed = {name for name in before if not np.array_equal(before[name], after[name])}
    layers = {name.rsplit("/", 2)[0] for name in before if "/layer_" in name and name.endswith("/intermediate/kernel")}
    assert zeroed == {f"{layer}{part}/output/kernel" for layer in layers for part in ("", "/attention")} and len(layers) == 4


def test_the_average_stands_at_the_end():
    from speedrun_ingredients import average_weights

    config = tiny_config(training__num_steps=4)
    model = build_pretrainer(config, VOCAB_SIZE)
    average_weights(model, config)
    name, values = "discriminator/layer_0/output/kernel", []
    watched = named_weights(model.models)[name]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            model.sync_state()
            values.append(np.array(keras.ops.convert_to_numpy(watched.value)))

    model.fit((random_batch(seed) for seed in range(4)), steps_per_epoch=4, epochs=1, verbose=0, callbacks=[Watch()])
    expected = values[0]
    for value in values[1:]:
        expected = 0.99 * expected + 0.01 * value
    np.testing.assert_allclose(weight_arrays(model)[name], expected, atol=1e-7)
    assert np.abs(values[-1] - expected).max() > 1e-4


@pytest.fixture
def job(tmp_path, config):
    """Eight steps of four texts of 16 tokens; the first two are of two texts of 8."""
    from electra_keras.data.prepare import prepare

    def packed(**packing):
        return dataclasses.replace(config, packing=dataclasses.replace(config.packing, **packing))

    packings = {"segments": {}, "single_blocks": {"style": "blocks", "single_segment_prob": 1.0}, "short": {"sequence_length": 8}}
    folders = {name: os.fspath(tmp_path / name) for name in packings}
    for name, packing in packings.items():
        vocabulary = {} if name == "segments" else {"vocab_file": os.fspath(tmp_path / "segments" / "vocab.txt")}
        tokenizer = dataclasses.replace(config.tokenizer, **vocabulary)
        prepare(dataclasses.replace(packed(**packing), tokenizer=tokenizer), folders[name], lambda line: None)
    training = dataclasses.replace(config.training, num_steps=8, log_every_steps=1, validate_every_steps=4, checkpoint_every_steps=1)
    save_config(dataclasses.replace(config, training=training), tmp_path / "config.yaml")
    return {
        "config": os.fspath(tmp_path / "config.yaml"),
        "data": folders,
        "held_out_examples": 8,
        "opening": {"packing": "short", "batch_size": 2, "draws": "followers"},
    }


def test_an_opening_has_its_own_batches_and_can_be_killed_as_can_the_rest(tmp_path, job, monkeypatch):
    import speedrun_cells

    whole = speedrun_cells.train_cell({**job, "run_dir": tmp_path / "whole"})
    trained = [line for line in whole["lines"] if "seconds" in line]
    assert [line["step"] for line in trained] == [*range(1, 9)]
    assert [line.get("opening", False) for line in trained] == [True, True, *[False] * 6]
    assert [line["has_compilation"] for line in trained] == [True, False, True, *[False] * 5]
    assert all(line["tokens"] <= 2 * 8 for line in trained[:2]) and all(2 * 8 < line["tokens"] <= 4 * 16 for line in trained[2:])
    original = callbacks.MetricsLog.on_train_batch_end

    class Crash(Exception):
        pass

    killed = {**job, "run_dir": tmp_path / "killed"}
    for last in (2, 5):

        def on_train_batch_end(self, batch, logs=None, last=last):
            if self.session.start_step + batch + 1 == last:
                raise Crash
            original(self, batch, logs)

        monkeypatch.setattr(callbacks.MetricsLog, "on_train_batch_end", on_train_batch_end)
        with pytest.raises(Crash):
            speedrun_cells.train_cell(killed)
    monkeypatch.setattr(callbacks.MetricsLog, "on_train_batch_end", original)
    again = speedrun_cells.train_cell(killed)
    assert again["by_packing"] == whole["by_packing"] and again["held_out_sha256"] == whole["held_out_sha256"]
    assert [line["step"] for line in again["lines"] if line.get("opening")] == [1, 2]


def test_zeros_and_averages_are_of_the_cell_that_asks_for_them(tmp_path, job):
    import speedrun_cells

    plain = {name: value for name, value in job.items() if name != "opening"}
    found = speedrun_cells.train_cell({**plain, "run_dir": tmp_path / "run", "zero_outputs": True, "averaged": True})
    validations = [line for line in found["lines"] if "val_generator_loss" in line]
    # The last step is validated twice, before and after the average took the weights' place.
    assert [line["step"] for line in validations] == [4, 8, 8]
    assert validations[1]["val_generator_loss"] != validations[2]["val_generator_loss"]
    untouched = speedrun_cells.train_cell({**plain, "run_dir": tmp_path / "plain"})
    first = [result["lines"][0]["generator_loss"] for result in (found, untouched)]
    assert first[0] != first[1]
    # Taken up once more when it is finished, the average stays.
    again = speedrun_cells.train_cell({**plain, "run_dir": tmp_path / "run", "zero_outputs": True, "averaged": True})
    assert again["by_packing"] == found["by_packing"]


def test_a_cell_of_another_architecture_is_trained_and_found_again(tmp_path, job):
    import speedrun_cells
    import speedrun_detection
    from speedrun_plan import VARIANTS

    plain = {name: value for name, value in job.items() if name != "opening"}
    found = speedrun_cells.train_cell({**plain, "run_dir": tmp_path / "run", **VARIANTS["gated"].beyond_configuration()})
    run = RunDirectory.open(tmp_path / "run")
    models = speedrun_detection.build_models(run, {"variant": "gated"})
    weights, saved = named_weights(models), run.final_weights()
    assert weights.keys() == saved.keys() and "discriminator/layer_0/gate/kernel" in saved
    assert all(np.array_equal(keras.ops.convert_to_numpy(weights[name].value), saved[name]) for name in saved)
    assert sum(array.size for array in saved.values()) == found["num_parameters"]
    with pytest.raises(RunError, match="do not fit the model"):
        speedrun_detection.build_models(run, {"variant": "modern"})
