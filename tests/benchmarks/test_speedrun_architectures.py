"""Encoders that are not ELECTRA's, against ModernBERT's layers, which have all that they change."""

import pathlib

import keras
import numpy as np
import pytest
from witnesses.tiny import LENGTH, VOCAB_SIZE, random_batch, tiny_config

from electra_keras.modeling.models import build_discriminator
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives import build_objective
from electra_keras.training.run import compiled_pretrainer
from electra_keras.training.state import weight_arrays

pytestmark = pytest.mark.backend

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
DEPARTURES = ("rotary", "gated", "unbiased", "norm_first")


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def discriminator(*departures):
    from speedrun_architectures import Architecture, restructured

    config = tiny_config(model__num_layers=3, model__intermediate_dim=24)
    models = {"discriminator": build_discriminator(config.model, VOCAB_SIZE)}
    return restructured(models, Architecture(**dict.fromkeys(departures, True)))["discriminator"]


def randomize(model):
    """Gives every weight that is trained random values, LayerNorms' too."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0.0, 0.6, variable.shape).astype(np.float32) + variable.path.endswith("gamma"))


def modernbert_layer(block):
    """Returns transformers' layer with a block's weights."""
    torch = pytest.importorskip("torch", reason="the witness needs torch")
    transformers = pytest.importorskip("transformers", reason="the witness needs transformers")
    from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer, ModernBertRotaryEmbedding

    config = transformers.ModernBertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        norm_eps=1e-12,
        layer_types=["full_attention", "full_attention"],
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}},
        attn_implementation="eager",
    )
    layer = ModernBertEncoderLayer(config, layer_idx=1).eval()
    arrays = {
        variable.path.split("/", variable.path.split("/").index(block.name) + 1)[-1]: np.array(keras.ops.convert_to_numpy(variable.value))
        for variable in block.weights
    }
    kernels = {
        "attn.Wqkv": arrays["attention/qkv/kernel"],
        "attn.Wo": arrays["attention/output/kernel"],
        "mlp.Wi": np.concatenate([arrays["intermediate/kernel"], arrays["gate/kernel"]], axis=1),
        "mlp.Wo": arrays["output/kernel"],
    }
    state = {f"{name}.weight": torch.tensor(kernel.T.copy()) for name, kernel in kernels.items()}
    for theirs, ours in (("attn_norm", "attention_norm"), ("mlp_norm", "output_norm")):
        state[f"{theirs}.weight"] = torch.tensor(arrays[f"{ours}/gamma"])
    layer.load_state_dict(state)

    def apply(tokens, padding_mask):
        tokens = torch.tensor(tokens)
        positions = torch.arange(tokens.shape[1])[None]
        rotations = ModernBertRotaryEmbedding(config)(tokens, positions, "full_attention")
        mask = (1.0 - torch.tensor(padding_mask, dtype=torch.float32))[:, None, None, :] * -1e9
        with torch.no_grad():
            return layer(tokens, attention_mask=mask, position_embeddings=rotations).numpy()

    return apply


def test_with_all_departures_a_layer_is_modernberts():
    model = discriminator(*DEPARTURES)
    randomize(model)
    block, last = model.get_layer("layer_1"), model.get_layer("layer_2")
    tokens = np.random.default_rng(1).normal(size=(4, LENGTH, 8)).astype(np.float32)
    padding_mask = random_batch()[0]["padding_mask"]
    real = padding_mask.astype(bool)
    outputs = {
        layer.name: keras.ops.convert_to_numpy(layer(tokens.reshape(-1, 8), padding_mask)).reshape(tokens.shape) for layer in (block, last)
    }
    np.testing.assert_allclose(outputs["layer_1"][real], modernbert_layer(block)(tokens, padding_mask)[real], rtol=1e-5, atol=1e-5)
    # Behind the last layer stands one more LayerNorm.
    unnormalised = modernbert_layer(last)(tokens, padding_mask)
    centred = unnormalised - unnormalised.mean(axis=-1, keepdims=True)
    gamma = keras.ops.convert_to_numpy(last.last_norm.gamma.value)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True)) * gamma
    np.testing.assert_allclose(outputs["layer_2"][real], expected[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("departure", DEPARTURES)
def test_each_departure_changes_what_it_says_alone(departure):
    plain, changed = discriminator(), discriminator(departure)
    weights = [{name: tuple(variable.shape) for name, variable in named_weights({"d": model}).items()} for model in (plain, changed)]
    differing = {name for name in weights[0].keys() | weights[1].keys() if weights[0].get(name) != weights[1].get(name)}
    layers = [f"d/layer_{index}" for index in range(3)]
    gate = {f"{layer}/{part}" for layer in layers for part in ("gate/kernel", "gate/bias", "intermediate/kernel", "intermediate/bias")}
    expected = {
        "gated": gate | {f"{layer}/output/kernel" for layer in layers},
        "norm_first": {f"{layers[2]}/last_norm/{p}" for p in ("gamma", "beta")},
    }
    assert differing == expected.get(departure, set())
    held = {name for name, variable in named_weights({"d": changed}).items() if not variable.trainable}
    biases = {name for name in weights[0] if "/layer_" in name and name.endswith(("/bias", "/beta"))}
    assert held == {"rotary": {"embeddings/position/embeddings"}, "unbiased": biases}.get(departure, set()) and len(biases) == 18
    for model in (plain, changed):
        randomize(model)
    x = random_batch()[0]
    inputs = {name: x[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    logits = [keras.ops.convert_to_numpy(model(inputs)) for model in (plain, changed)]
    assert np.abs(logits[0] - logits[1]).max() > 1e-2


def test_rotated_heads_begin_at_their_neighbours():
    from speedrun_architectures import neighbor_biases, rotary_frequencies

    query, key = neighbor_biases(head_dim=32, num_heads=4)
    turns = np.exp(1j * np.outer(np.arange(40), rotary_frequencies(32)))

    def turned(bias):
        return (bias[:16] + 1j * bias[16:]) * turns

    for head, offset in enumerate((-1, 1, -2, 2)):
        scores = np.real(turned(query[head]) @ turned(key[head]).conj().T) / np.sqrt(32)
        inside = np.arange(2, 38)
        assert (scores.argmax(axis=1)[inside] == inside + offset).all()
        beside = np.delete(scores[20] - scores[20, 20 + offset], 20 + offset)
        assert beside.max() == pytest.approx(-6.0, abs=1e-4)


def test_what_is_held_at_zero_stays_there_in_training():
    from speedrun_architectures import build_models

    config = tiny_config()
    objective = build_objective(config.objective)
    models = build_models(objective, config, VOCAB_SIZE, dict.fromkeys(DEPARTURES, True))
    model = compiled_pretrainer(config, objective, models)
    before = weight_arrays(model)
    model.fit((random_batch(seed) for seed in range(3)), steps_per_epoch=3, epochs=1, verbose=0)
    after = weight_arrays(model)
    unchanged = {name for name in before if np.array_equal(before[name], after[name])}
    held = {name for name in before if "/layer_" in name and name.endswith(("/bias", "/beta"))} | {"embeddings/position/embeddings"}
    assert unchanged == held and not any(after[name].any() for name in held)
    # Both models read the one table of words.
    assert models["generator"].get_layer("embeddings") is models["discriminator"].get_layer("embeddings")
