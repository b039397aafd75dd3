"""Directories of transformers in and out: what transformers says of them, bit by bit."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from witnesses.electra_in_huggingface import SHAPES, build_pair, randomize, save, save_pair, vocabulary

from electra_keras.artifacts import RunDirectory
from electra_keras.cli import main
from electra_keras.errors import UserError
from electra_keras.interop.exporting import export_run
from electra_keras.interop.huggingface import read_encoder
from electra_keras.interop.importing import import_run

SMALL = SHAPES["narrow embeddings, 3 heads"]
OPENED_BY = {"discriminator": "ElectraForPreTraining", "generator": "ElectraForMaskedLM", "encoder": "ElectraModel"}


def silent(line):
    pass


def states_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def assert_equal_arrays(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("name", SHAPES)
def test_a_pair_comes_in_and_goes_out_unchanged(tmp_path, name):
    shape = SHAPES[name]
    pair = dict(zip(("discriminator", "generator"), save_pair(shape, tmp_path / "theirs"), strict=True))
    run = import_run(tmp_path / "theirs", tmp_path / "run", report=silent)
    assert run.is_finished and run.description["missing"] == [] and run.config.objective.name == "electra"
    assert run.config.model.embedding_sharing == ("shared" if shape.shared else "none")
    export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=silent)
    for role, architecture in OPENED_BY.items():
        opened, info = getattr(transformers, architecture).from_pretrained(tmp_path / "ours" / role, output_loading_info=True)
        assert not any(info.values()), (role, info)
        expected = pair["discriminator"].electra if role == "encoder" else pair[role]
        assert_equal_arrays(states_of(opened), states_of(expected))
        theirs, ours = expected.config.to_dict(), opened.config.to_dict()
        assert ours["architectures"] == [architecture]
        assert {key for key, value in ours.items() if theirs[key] != value} <= {"architectures", "_name_or_path"}


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_exported_is_imported_bit_by_bit(tmp_path, name):
    save_pair(SHAPES[name], tmp_path / "theirs", lowercase=False, split_chinese=False)
    first = import_run(tmp_path / "theirs", tmp_path / "first", report=silent)
    export_run(tmp_path / "first", "huggingface", tmp_path / "ours", report=silent)
    second = import_run(tmp_path / "ours", tmp_path / "second", report=silent)
    assert_equal_arrays(second.final_weights(), first.final_weights())
    assert second.config == first.config
    assert second.tokenizer().fingerprint == first.tokenizer().fingerprint


@pytest.mark.parametrize(
    "settings",
    [
        {"lowercase": True},
        {"lowercase": False},
        {"lowercase": True, "strip_accents": False},
        {"lowercase": False, "strip_accents": True, "split_chinese": False},
    ],
)
def test_tokenizer_settings_survive(tmp_path, settings):
    save(build_pair(SMALL)[0], tmp_path / "theirs", **settings)
    run = import_run(tmp_path / "theirs", tmp_path / "run", report=silent)
    assert run.tokenizer().settings == {"strip_accents": None, "split_chinese": True, **settings}
    assert run.config.tokenizer.lowercase == settings["lowercase"]
    export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=silent)
    witness = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours" / "discriminator")
    text = "W1 É日本 w1"
    normalized = witness.backend_tokenizer.normalizer.normalize_str(text)
    assert normalized == run.tokenizer().backend.normalizer.normalize_str(text)
    assert normalized.startswith("w1" if settings["lowercase"] else "W1")
    assert witness.model_max_length == 16
    assert (witness.pad_token, witness.mask_token) == ("[PAD]", "[MASK]")


def test_a_pytorch_file_says_the_same_as_safetensors(tmp_path):
    model = build_pair(SMALL)[0]
    save(model, tmp_path / "new")
    save(model, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    # Older versions of transformers saved this buffer, too.
    positions = {"electra.embeddings.position_ids": torch.arange(16)[None]}
    torch.save({**model.state_dict(), **positions}, tmp_path / "old" / "pytorch_model.bin")
    expected = read_encoder(tmp_path / "new").weights
    assert_equal_arrays(read_encoder(tmp_path / "old").weights, expected)
    # As PyTorch wrote them before version 1.6, which is what the first published models are.
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_equal_arrays(read_encoder(tmp_path / "old").weights, expected)


def test_safetensors_are_preferred(tmp_path):
    folder = save(build_pair(SMALL)[0], tmp_path / "both")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert read_encoder(folder).head == "detection"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path, dtype):
    model = build_pair(SMALL)[0].to(dtype)
    weights = read_encoder(save(model, tmp_path / "half")).weights
    expected = model.electra.embeddings.word_embeddings.weight.detach().float().numpy()
    np.testing.assert_array_equal(weights["embeddings/word/embeddings"], expected)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}


def test_a_tokenizer_json_alone_is_enough(tmp_path):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs", lowercase=False, split_chinese=False)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").unlink()
    tokenizer = read_encoder(folder).tokenizer
    assert tokenizer.vocab == vocabulary(SMALL.vocab_size)
    assert tokenizer.settings == {"lowercase": False, "strip_accents": None, "split_chinese": False}


def test_rows_without_an_entry_get_names(tmp_path):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    (folder / "vocab.txt").write_text("\n".join([*vocabulary(9)[:8], "[unused_row_9]"]) + "\n")
    assert read_encoder(folder).tokenizer.vocab[8:] == ["[unused_row_9]", "[unused_row_10]", "[unused_row_11]"]


def test_an_encoder_without_a_head_can_be_fine_tuned_only(tmp_path):
    model = transformers.ElectraModel(build_pair(SMALL)[0].config)
    run = import_run(save(model, tmp_path / "theirs"), tmp_path / "run", report=silent)
    assert run.description["missing"] == ["detection head", "generator"]
    np.testing.assert_array_equal(run.final_weights()["embeddings/word/embeddings"], states_of(model)["embeddings.word_embeddings.weight"])
    export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=silent)
    assert [folder.name for folder in (tmp_path / "ours").iterdir()] == ["encoder"]


def edit_config(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def edit_tensors(change):
    def edit(folder):
        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return edit


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def hide_a_program(folder):
    class Program:
        def __reduce__(self):
            return (open, (str(folder / "it-ran"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"electra.embeddings.word_embeddings.weight": Program()}, folder / "pytorch_model.bin")


def write_bin(content):
    def write(folder):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content) if isinstance(content, bytes) else torch.save(
            content, folder / "pytorch_model.bin"
        )

    return write


def write_vocabulary(*words):
    return lambda folder: (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def other_tokenizer(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))


QUERY = "electra.encoder.layer.1.attention.self.query.weight"
DENSE = "discriminator_predictions.dense.weight"
BAD = [
    (edit_config(model_type="bert"), r"config.json describes a model of type 'bert'. Only ELECTRA"),
    (edit_config(model_type="roberta"), "model of type 'roberta'"),
    (edit_config(hidden_act="gelu_new"), "has hidden_act 'gelu_new'; here it is always 'gelu'"),
    (edit_config(layer_norm_eps=1e-5), "layer_norm_eps 1e-05"),
    (edit_config(type_vocab_size=3), "type_vocab_size 3"),
    (edit_config(hidden_size="wide"), "gives no whole number for hidden_size"),
    (edit_config(num_attention_heads=5), "hidden_dim 12 is not divisible by num_heads 5"),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "ele'), "config.json cannot be read as JSON"),
    (edit_tensors(lambda arrays: arrays.pop(QUERY)), f"missing: {QUERY}"),
    (
        edit_tensors(lambda arrays: arrays.update({"classifier.weight": arrays.pop(DENSE)})),
        f"missing: {DENSE}; left over: classifier.weight",
    ),
    (edit_tensors(lambda arrays: arrays.update({QUERY: arrays[QUERY][:, :5].copy()})), rf"{QUERY} is \(12, 5\) and should be \(12, 12\)"),
    (
        edit_tensors(lambda arrays: arrays[QUERY].__setitem__((2, 1), np.nan)),
        "holds NaN or infinite weights.*: layer_1/attention/query/kernel",
    ),
    (edit_config(num_hidden_layers=1), "left over: electra.encoder.layer.1.attention.output.LayerNorm.bias"),
    (cut_weights, "cannot be read as safetensors"),
    (hide_a_program, "a pickle that wants to run code, which is never done"),
    (write_bin(b"junk"), "holds no plain tensors"),
    (write_bin([1, 2]), "holds no plain dictionary of tensors"),
    (remove("model.safetensors"), "has neither model.safetensors nor pytorch_model.bin"),
    (remove("vocab.txt"), "has neither vocab.txt nor tokenizer.json"),
    (write_vocabulary(*vocabulary(12)), "has 12 entries and its word embeddings 11 rows"),
    (write_vocabulary("[PAD]", "[UNK]", "[CLS]", "[SEP]", "word"), r"no \[MASK\]"),
    (other_tokenizer, "uses BertJapaneseTokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_folder_is_one_error_and_leaves_nothing(tmp_path, damage, message):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    damage(folder)
    with pytest.raises(UserError, match=message):
        import_run(folder, tmp_path / "run", report=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert not (folder / "it-ran").exists()


def real_model(name):
    sizes = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20}
    return getattr(transformers, f"{name}ForMaskedLM")(getattr(transformers, f"{name}Config")(**sizes))


@pytest.mark.parametrize(("name", "left_over"), [("Bert", "bert.embeddings.LayerNorm.bias"), ("Roberta", "lm_head.bias")])
def test_another_architecture_is_told_by_its_configuration_or_else_by_its_tensors(tmp_path, capsys, name, left_over):
    folder = tmp_path / "theirs"
    real_model(name).save_pretrained(folder)
    write_vocabulary(*vocabulary(11))(folder)
    # What transformers says while it saves.
    capsys.readouterr()
    command = ["import", "--from", str(folder), "--run_dir", str(tmp_path / "run")]
    assert main(command) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and f"a model of type {name.lower()!r}" in output.err
    edit_config(model_type="electra", embedding_size=12, type_vocab_size=2, layer_norm_eps=1e-12)(folder)
    assert main(command) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "missing: electra.embeddings.word_embeddings.weight" in output.err
    # Names as they stand in the file.
    assert f"left over: {left_over}, " in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("damage", [cut_weights, hide_a_program], ids=["truncated", "program"])
def test_the_command_line_reports_a_bad_folder_with_code_2(tmp_path, capsys, damage):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    damage(folder)
    capsys.readouterr()
    for command in (
        ["import", "--from", str(folder), "--run_dir", str(tmp_path / "run")],
        ["detect", "--model", str(folder), "--text", "w1"],
    ):
        assert main(command) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1 and output.err.startswith(f"electra-keras: error: {folder}/")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"] and not (folder / "it-ran").exists()


def test_an_output_matrix_of_its_own_is_refused(tmp_path):
    model = build_pair(SMALL)[1]
    folder = save(model, tmp_path / "theirs")
    arrays = load_file(folder / "model.safetensors")
    arrays["generator_lm_head.weight"] = arrays["electra.embeddings.word_embeddings.weight"].copy()
    save_file(arrays, folder / "model.safetensors")
    assert read_encoder(folder).head == "masked_lm"
    arrays["generator_lm_head.weight"][3, 3] += 1
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"generator_lm_head.weight differs from electra.embeddings.word_embeddings.weight"):
        read_encoder(folder)


def test_without_torch_its_files_are_refused(tmp_path, monkeypatch):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setattr("electra_keras.interop.tensor_files.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"PyTorch alone, which is not installed. Install it \(pip install"):
        read_encoder(folder)


def test_an_export_never_replaces_what_is_there(tmp_path):
    import_run(save(build_pair(SMALL)[0], tmp_path / "theirs"), tmp_path / "run", report=silent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="full is not empty"):
        export_run(tmp_path / "run", "huggingface", tmp_path / "full", report=silent)
    with pytest.raises(UserError, match="full is not empty"):
        import_run(tmp_path / "theirs", tmp_path / "full", report=silent)
    with pytest.raises(UserError, match=r"thesis\.txt is a file"):
        export_run(tmp_path / "run", "huggingface", tmp_path / "full" / "thesis.txt", report=silent)
    with pytest.raises(UserError, match=r"Cannot write .*: Not a directory|Cannot write .*: File exists"):
        export_run(tmp_path / "run", "huggingface", tmp_path / "full" / "thesis.txt" / "out", report=silent)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years of work"


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    import_run(save(build_pair(SMALL)[0], tmp_path / "theirs"), tmp_path / "run", report=silent)

    def full_disk(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("electra_keras.interop.huggingface.save", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "theirs"]


def test_disentangled_embeddings_are_exported_as_their_sum(tmp_path):
    save_pair(SMALL, tmp_path / "theirs")
    run = import_run(tmp_path / "theirs", tmp_path / "run", report=silent)
    arrays = run.final_weights()
    random = np.random.default_rng(0)
    differences = {
        name: random.normal(size=array.shape).astype(np.float32) for name, array in arrays.items() if name.startswith("embeddings/")
    }
    arrays |= {f"discriminator/{name.replace('embeddings/', 'embeddings_difference/', 1)}": array for name, array in differences.items()}
    (tmp_path / "run" / "config.yaml").write_text(
        (tmp_path / "run" / "config.yaml").read_text().replace("embedding_sharing: shared", "embedding_sharing: disentangled")
    )
    RunDirectory.open(tmp_path / "run").finish(arrays)
    export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=silent)
    written = {role: load_file(tmp_path / "ours" / role / "model.safetensors") for role in ("discriminator", "generator")}
    words, norm = "embeddings/word/embeddings", "embeddings/norm/gamma"
    theirs = "electra.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(written["discriminator"][theirs], arrays[words] + differences[words])
    np.testing.assert_array_equal(written["generator"][theirs], arrays[words])
    np.testing.assert_array_equal(written["discriminator"]["electra.embeddings.LayerNorm.weight"], differences[norm])


def test_a_generator_alone_is_a_masked_language_model(tmp_path):
    lines = []
    generator = build_pair(SMALL)[1]
    randomize(generator, 5)
    run = import_run(save(generator, tmp_path / "theirs"), tmp_path / "run", report=lines.append)
    assert run.config.objective.name == "mlm" and run.config.model.hidden_dim == SMALL.generator_hidden
    assert "a generator alone" in lines[1]
    export_run(tmp_path / "run", "huggingface", tmp_path / "ours", report=lines.append)
    opened, info = transformers.ElectraForMaskedLM.from_pretrained(tmp_path / "ours" / "generator", output_loading_info=True)
    assert not any(info.values())
    assert_equal_arrays(states_of(opened), states_of(generator))
