"""Presets in and out, opened and written by KerasHub itself."""

import json
import re

import numpy as np
import pytest
from keras import ops
from safetensors.numpy import load_file, save_file
from witnesses.electra_in_huggingface import POSITIONS, SHAPES, build_pair, save, save_pair, vocabulary

from electra_keras.errors import UserError
from electra_keras.interop.exporting import export_run, run_encoders
from electra_keras.interop.importing import import_run
from electra_keras.interop.keras_hub import read_encoder
from electra_keras.modeling.models import build_encoder
from electra_keras.modeling.weights import load_named_weights

pytestmark = pytest.mark.backend

keras_hub = pytest.importorskip("keras_hub", reason="the witness needs keras-hub")
SMALL = SHAPES["narrow embeddings, 3 heads"]


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """A run, its presets, and what the export said."""
    folder, lines = tmp_path_factory.mktemp("exported"), []
    save_pair(SHAPES[request.param], folder / "theirs")
    run = import_run(folder / "theirs", folder / "run", report=lines.append)
    export_run(folder / "run", "keras_hub", folder / "presets", report=lines.append)
    return run, folder / "presets", lines


def random_inputs(vocab_size):
    shape = (3, POSITIONS)
    token_ids = np.random.default_rng(1).integers(0, vocab_size, shape).astype(np.int32)
    padding_mask = (np.arange(POSITIONS) < np.array([[POSITIONS], [9], [5]])).astype(np.int32)
    return {"token_ids": token_ids, "segment_ids": (np.arange(POSITIONS) % 2 * padding_mask).astype(np.int32), "padding_mask": padding_mask}


def test_a_preset_computes_what_the_run_does_but_for_gelu(exported):
    run, presets, lines = exported
    vocab_size = run.tokenizer().vocab_size
    backbone = keras_hub.models.ElectraBackbone.from_preset(str(presets / "discriminator"))
    encoder = build_encoder(run.config.model, vocab_size)
    load_named_weights({"discriminator": encoder}, run.final_weights(), ignore_extra=True)
    inputs = random_inputs(vocab_size)
    found, real = backbone(inputs), inputs["padding_mask"] == 1
    expected = ops.convert_to_numpy(encoder(inputs))
    difference = np.abs(ops.convert_to_numpy(found["sequence_output"]) - expected)[real].max()
    assert 0 < difference < 5e-3 and np.abs(expected).max() > 1
    np.testing.assert_allclose(
        ops.convert_to_numpy(found["pooled_output"]), np.tanh(ops.convert_to_numpy(found["sequence_output"])[:, 0]), atol=1e-6
    )
    (line,) = [line for line in lines if line.startswith("discriminator/")]
    reported = float(re.search(r"differ by at most (\S+) \(", line)[1])
    assert difference / 10 < reported < difference * 10


def test_with_erf_gelu_a_preset_computes_what_the_run_does(exported):
    run, presets, _ = exported
    vocab_size = run.tokenizer().vocab_size
    backbone = keras_hub.models.ElectraBackbone.from_preset(str(presets / "discriminator"))
    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = lambda x: ops.gelu(x, approximate=False)
    encoder = build_encoder(run.config.model, vocab_size)
    load_named_weights({"discriminator": encoder}, run.final_weights(), ignore_extra=True)
    inputs = random_inputs(vocab_size)
    real = inputs["padding_mask"] == 1
    found, expected = (ops.convert_to_numpy(outputs)[real] for outputs in (backbone(inputs)["sequence_output"], encoder(inputs)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_was_exported_is_imported_bit_by_bit(exported, tmp_path):
    run, presets, _ = exported
    second = import_run(presets, tmp_path / "second", report=lambda line: None)
    found, expected = second.final_weights(), run.final_weights()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert second.config == run.config or second.config.model.dropout == run.config.model.dropout == 0
    assert second.tokenizer().fingerprint == run.tokenizer().fingerprint


def test_heads_lie_beside_the_preset(exported):
    run, presets, _ = exported
    heads = {role: load_file(presets / role / "heads.safetensors") for role in ("discriminator", "generator")}
    expected = {f"{role}/{name}" for role, arrays in heads.items() for name in arrays}
    assert expected == {name for name in run.final_weights() if "_head/" in name or "output_bias" in name}


@pytest.mark.parametrize(
    ("settings", "text", "words"),
    [
        ({"lowercase": True}, "É E日本", ["e", "e", "日", "本"]),
        ({"lowercase": True, "strip_accents": False}, "É", ["é"]),
        ({"lowercase": False}, "É E", ["É", "E"]),
        ({"lowercase": False, "strip_accents": True, "split_chinese": False}, "É 日本", ["E", "日本"]),
    ],
)
def test_tokenizer_settings_survive(tmp_path, settings, text, words):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs", **settings)
    entries = [*vocabulary(11)[:5], "e", "é", "É", "E", "日", "日本" if "日本" in words else "本"]
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    run = import_run(folder, tmp_path / "run", report=lambda line: None)
    export_run(tmp_path / "run", "keras_hub", tmp_path / "presets", report=lambda line: None)
    tokenizer = keras_hub.models.ElectraTokenizer.from_preset(str(tmp_path / "presets" / "discriminator"))
    found = [tokenizer.id_to_token(int(index)) for index in np.asarray(tokenizer(text))]
    assert found == words == run.tokenizer().encode(text).tokens
    again = import_run(tmp_path / "presets", tmp_path / "again", report=lambda line: None)
    assert again.tokenizer().fingerprint == run.tokenizer().fingerprint


def test_a_preset_without_heads_can_be_fine_tuned_only(tmp_path):
    backbone = keras_hub.models.ElectraBackbone(
        vocab_size=11, num_layers=1, num_heads=3, hidden_dim=12, embedding_dim=6, intermediate_dim=20, max_sequence_length=16
    )
    backbone.save_to_preset(str(tmp_path / "preset"))
    keras_hub.models.ElectraTokenizer(vocabulary(11), lowercase=True, strip_accents=True).save_to_preset(str(tmp_path / "preset"))
    run = import_run(tmp_path / "preset", tmp_path / "run", report=lambda line: None)
    assert run.description["missing"] == ["detection head", "generator"]
    assert (run.config.model.dropout, run.config.model.num_heads) == (0.1, 3)
    (encoder,) = run_encoders(run)
    np.testing.assert_array_equal(encoder.weights["embeddings/word/embeddings"], ops.convert_to_numpy(backbone.token_embedding.embeddings))
    query = ops.convert_to_numpy(backbone.get_layer("transformer_layer_0")._self_attention_layer._query_dense.kernel)
    np.testing.assert_array_equal(encoder.weights["layer_0/attention/query/kernel"], query.reshape(12, 12))


def test_a_preset_from_the_time_of_keras_nlp_is_read(tmp_path, preset):
    """The published presets carry the older name, and say nothing of settings that came later."""
    copy_preset(preset, tmp_path / "copy")
    change_json("config.json", registered_name="keras_nlp>ElectraBackbone")(tmp_path / "copy")
    tokenizer = json.loads((tmp_path / "copy" / "tokenizer.json").read_text())
    for name in ("split_on_cjk", "special_tokens_in_strings", "special_tokens"):
        tokenizer["config"].pop(name, None)
    (tmp_path / "copy" / "tokenizer.json").write_text(json.dumps(tokenizer))
    found, expected = read_encoder(tmp_path / "copy"), read_encoder(preset)
    assert found.tokenizer.fingerprint == expected.tokenizer.fingerprint and found.tokenizer.settings["split_chinese"] is True
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array, err_msg=name)


def change_json(name, **changes):
    def damage(folder):
        content = json.loads((folder / name).read_text())
        for key, value in changes.items():
            place = content if key == "registered_name" else content["config"]
            place[key] = value
        (folder / name).write_text(json.dumps(content))

    return damage


def cut(folder):
    path = folder / "model.weights.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wrong_head(folder):
    save_file({"detection_head/dense/kernel": np.zeros((3, 3), np.float32)}, folder / "heads.safetensors")


BAD = [
    (change_json("config.json", registered_name="keras_hub>BertBackbone"), "is the preset of keras_hub>BertBackbone"),
    (change_json("config.json", hidden_dim=15), "does not hold the weights that"),
    (change_json("config.json", num_layers=1), "it has 41 arrays where 25 are needed"),
    (change_json("config.json", num_layers=3), "does not hold the weights that"),
    (change_json("config.json", num_layers=None), "gives no whole number for num_layers"),
    (change_json("config.json", num_segments=4), "has 4 segments"),
    (change_json("tokenizer.json", split=False), "describes no WordPiece"),
    (cut, "does not hold the weights that"),
    (wrong_head, r"missing: detection_head/dense/bias.*detection_head/dense/kernel is \(3, 3\) and should be \(12, 12\)"),
    (lambda folder: (folder / "assets/tokenizer/vocabulary.txt").unlink(), "Cannot read the vocabulary"),
    (lambda folder: (folder / "model.weights.h5").unlink(), "does not hold the weights that"),
]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    import_run(save(build_pair(SMALL)[0], folder / "theirs"), folder / "run", report=lambda line: None)
    export_run(folder / "run", "keras_hub", folder / "presets", report=lambda line: None)
    return folder / "presets" / "discriminator"


def copy_preset(preset, folder):
    for path in preset.rglob("*"):
        if path.is_file():
            copied = folder / path.relative_to(preset)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())


@pytest.mark.parametrize(("damage", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_preset_is_one_error(tmp_path, preset, damage, message):
    copy_preset(preset, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(UserError, match=message):
        read_encoder(tmp_path / "copy")
