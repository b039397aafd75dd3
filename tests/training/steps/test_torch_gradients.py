import keras
import numpy as np
import pytest
from keras import ops
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.errors import ConfigError
from electra_keras.training.run import build_pretrainer

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="gradients of PyTorch"),
]


def train(model, optimizer, steps=3, **compile_settings):
    """Trains on two batches of unlike shapes in turn, and returns the losses."""
    model.compile(optimizer=optimizer, **compile_settings)
    losses = []
    for step in range(steps):
        x, y, weights = random_batch(seed=step, batch_size=4 if step % 2 == 0 else 2)
        losses.append(loss_of_step(model, x, y, weights))
    return losses


def loss_of_step(model, x, y, weights):
    model.reset_metrics()
    model.train_on_batch(x, y, sample_weight=weights)
    return float(model.loss_mean.result())


def values(model):
    return [ops.convert_to_numpy(variable.value) for variable in model.variables]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_recording_trains_as_the_layers_do(precision, parts):
    config = tiny_config(
        training__precision=precision, training__gradient_accumulation_steps=parts, model__dropout=0.2, model__attention_dropout=0.2
    )
    recorded, by_layers = (build_pretrainer(config, VOCAB_SIZE) for _ in range(2))
    losses = train(recorded, recorded.optimizer)
    assert losses == train(by_layers, by_layers.optimizer, run_eagerly=True)
    assert len(set(losses)) == len(losses)
    for found, expected in zip(values(recorded), values(by_layers), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_dropout_differs_from_step_to_step():
    model = build_pretrainer(tiny_config(model__dropout=0.5), VOCAB_SIZE)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    x, y, weights = random_batch()
    losses = {loss_of_step(model, x, y, weights) for _ in range(4)}
    assert len(losses) == 4


def test_weights_frozen_after_a_recording_stay():
    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    train(model, keras.optimizers.SGD(0.1), steps=1)
    layer = model.models["discriminator"].get_layer("layer_0")
    layer.trainable = False
    before = [ops.convert_to_numpy(variable.value) for variable in layer.variables]
    others = [ops.convert_to_numpy(variable.value) for variable in model.models["generator"].trainable_variables]
    train(model, keras.optimizers.SGD(0.1), steps=1)
    for expected, variable in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), expected)
    after = model.models["generator"].trainable_variables
    assert any((ops.convert_to_numpy(variable.value) != value).any() for variable, value in zip(after, others, strict=True))


def test_what_decides_by_numbers_is_refused_unless_run_eagerly():
    def sample_by_number(logits, temperature, batch):
        return ops.full(ops.shape(batch.mask_positions), 5 if ops.max(logits) > 0 else 6, dtype="int32")

    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    model.sampler = sample_by_number
    with pytest.raises(RuntimeError, match="data-dependent") as caught:
        train(model, "sgd", steps=1)
    assert any("run_eagerly=True" in note for note in caught.value.__notes__)
    (loss,) = train(model, "sgd", steps=1, run_eagerly=True)
    assert np.isfinite(loss)


def test_a_users_error_goes_without_a_note_on_recording():
    def sample_wrongly(logits, temperature, batch):
        raise ConfigError("this sampler is for other models")

    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    model.sampler = sample_wrongly
    with pytest.raises(ConfigError) as caught:
        train(model, "sgd", steps=1)
    assert not any("run_eagerly" in note for note in getattr(caught.value, "__notes__", []))


def test_a_recording_repeats_only_random_numbers_and_what_is_overwritten():
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from electra_keras.training.steps.torch_gradients import slimmed

    def compute(x):
        twice = [torch.exp(x).detach(), torch.exp(x)]
        overwritten = [torch.sin(x).add_(1.0), torch.sin(x)]
        part_overwritten = torch.cos(x)
        part_overwritten.split(1)[0].zero_()
        return [*twice, *overwritten, part_overwritten, torch.cos(x), torch.rand(3) - torch.rand(3)]

    x = torch.linspace(0.0, 1.0, 3)
    recording = slimmed(make_fx(compute)(x))
    names = [str(node.target) for node in recording.graph.nodes]
    calls = {name: names.count(f"aten.{name}.default") for name in ("detach", "exp", "sin", "cos", "rand")}
    assert calls == {"detach": 0, "exp": 1, "sin": 2, "cos": 2, "rand": 2}
    *found, difference = recording(x)
    for value, expected in zip(found, compute(x), strict=False):
        np.testing.assert_array_equal(value, expected)
    assert difference.abs().max() > 0
