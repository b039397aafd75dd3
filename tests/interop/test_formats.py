"""The detector's files for inference, run by their own runtimes, against the Keras model and NumPy."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from witnesses.electra_in_huggingface import POSITIONS, SHAPES, inputs_of, save_pair

from electra_keras.cli import main
from electra_keras.cli_exchange import EXPORT_OPTIONS
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import BackendError, UserError
from electra_keras.interop.exporting import WRITERS, export_run, run_encoders
from electra_keras.interop.formats import files, keras_detector
from electra_keras.interop.formats.files import FILE_WRITERS
from electra_keras.interop.importing import import_run

onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
pytest.importorskip("onnx", reason="requirements-export.txt is not installed")
import onnx  # noqa: E402

SMALL = "narrow embeddings, 3 heads"
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def silent(line):
    pass


@pytest.fixture(scope="module", params=SHAPES)
def imported(request, tmp_path_factory):
    """A run with random weights, transformers' discriminator with the same, and the folder of both."""
    folder = tmp_path_factory.mktemp("imported")
    discriminator, _ = save_pair(SHAPES[request.param], folder / "theirs")
    return import_run(folder / "theirs", folder / "run", report=silent), discriminator, folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_pair(SHAPES[SMALL], folder / "theirs")
    return import_run(folder / "theirs", folder / "run", report=silent)


def batch(vocab_size, rows, length, seed=0):
    token_ids = np.random.default_rng(seed).integers(0, vocab_size, (rows, length)).astype(np.int32)
    real = np.arange(length) < np.maximum(1, length - 2 * np.arange(rows))[:, None]
    segment_ids = real & (np.arange(length) >= length // 2)
    return {"token_ids": token_ids, "segment_ids": segment_ids.astype(np.int32), "padding_mask": real.astype(np.int32)}


def expected_of(discriminator, inputs):
    """P(replaced) by transformers, in float64 behind the logits."""
    logits = discriminator(**inputs_of(inputs)).logits.detach().numpy().astype(np.float64)
    return 1 / (1 + np.exp(-logits))


def test_onnx_computes_what_transformers_does_for_any_batch_and_length(imported, tmp_path):
    run, discriminator, _ = imported
    export_run(run.path, "onnx", tmp_path / "out", report=silent)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "detector.onnx")
    assert {name.name: (name.type, name.shape) for name in session.get_inputs()} == dict.fromkeys(
        ("token_ids", "segment_ids", "padding_mask"), ("tensor(int32)", ["batch", "length"])
    )
    for rows, length in ((1, 1), (3, 9), (2, POSITIONS)):
        inputs = batch(run.tokenizer().vocab_size, rows, length)
        (found,) = session.run(["probabilities"], inputs)
        real = inputs["padding_mask"] == 1
        assert found.shape == (rows, length) and found.dtype == np.float32
        np.testing.assert_allclose(found[real], expected_of(discriminator, inputs)[real], atol=1e-5)


def test_exporting_loads_no_importers():
    program = "import sys, electra_keras.interop.sharing; print([name for name in sys.modules if name.startswith('electra_keras.interop')])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "interop.exporting" in loaded and "interop.importing" not in loaded and "interop.original" not in loaded


def test_onnx_needs_no_backend_and_is_the_same_file_every_time(run, tmp_path):
    program = (
        "import sys; from electra_keras.interop.exporting import export_run; "
        "export_run(sys.argv[1], 'onnx', sys.argv[2], report=lambda line: None); "
        "print([name for name in ('keras', 'jax', 'tensorflow', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, os.fspath(run.path), os.fspath(tmp_path / "first")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
    export_run(run.path, "onnx", tmp_path / "second", report=silent)
    assert (tmp_path / "first" / "detector.onnx").read_bytes() == (tmp_path / "second" / "detector.onnx").read_bytes()


def test_a_sequence_too_long_for_the_positions_fails_in_the_runtime(run, tmp_path):
    export_run(run.path, "onnx", tmp_path / "out", report=silent)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(tmp_path / "out" / "detector.onnx", options)
    with pytest.raises(Exception, match="embeddings/word_and_position"):
        session.run(None, batch(run.tokenizer().vocab_size, 1, POSITIONS + 1))


def test_the_vocabulary_lies_beside_the_file(run, tmp_path):
    lines = []
    export_run(run.path, "onnx", tmp_path / "out", report=lines.append)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detector.onnx", "tokenizer_config.json", "vocab.txt"]
    assert (tmp_path / "out" / "vocab.txt").read_text().split("\n")[:-1] == run.tokenizer().vocab
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["do_lower_case"] is run.tokenizer().settings["lowercase"]
    # Where a tokenizer told to truncate cuts: a longer text fails in the runtime.
    assert settings["model_max_length"] == POSITIONS
    assert WordPieceTokenizer.load(tmp_path / "out").fingerprint == run.tokenizer().fingerprint
    assert any("detector.onnx" in line and f"up to {POSITIONS} tokens" in line for line in lines)


def test_the_readme_runs_the_file_on_texts_of_any_length(run, tmp_path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(import onnxruntime\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    snippet, changed = re.subn(r'texts = \["(.*)"\]', r'texts = ["\1", "\1 " * 100]', snippet)
    export_run(run.path, "onnx", tmp_path / "detector", report=silent)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    assert changed == 1 and names["probabilities"].shape == (2, POSITIONS)


def test_int8_stores_matrices_and_words_in_8_bits_and_stays_close(run, tmp_path):
    for name in ("onnx", "onnx_int8"):
        export_run(run.path, name, tmp_path / name, report=silent)
    path = tmp_path / "onnx_int8" / "detector.int8.onnx"
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    quantized = {name for name, array in tensors.items() if array.dtype.itemsize == 1 and name.endswith("_quantized")}
    size = SHAPES[SMALL]
    assert len(quantized) == 2 + 1 + 4 * size.layers + 1  # words and segments, the projection, four products a layer, the head
    assert tensors["detection_head/prediction/kernel"].dtype == np.float32
    inputs = batch(size.vocab_size, 3, 9)
    float32, int8 = (onnxruntime.InferenceSession(file).run(None, inputs)[0] for file in (tmp_path / "onnx" / "detector.onnx", path))
    real = inputs["padding_mask"] == 1
    difference = np.abs(float32 - int8)[real]
    assert difference.max() > 0 and difference.mean() < 0.1 * float32[real].std() + 0.05


def test_saved_model_says_how_long_a_text_may_be(run, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_detector, "_choose_tensorflow", lambda: None)
    monkeypatch.setattr(keras_detector, "build_keras_detector", lambda discriminator: None)
    monkeypatch.setattr(keras_detector, "keras_export", lambda *arguments: None)
    line = FILE_WRITERS["saved_model"](run_encoders(run)[0], tmp_path)
    assert "{token_ids, segment_ids, padding_mask}" in line and f"any batch, up to {POSITIONS} tokens" in line


def test_saved_model_and_litert_compute_what_transformers_does(tmp_path):
    """By the command, in a process of its own: it must leave the choice of keras' backend, of which a process has one, to the format."""
    discriminator, _ = save_pair(SHAPES[SMALL], tmp_path / "theirs")
    run = import_run(tmp_path / "theirs", tmp_path / "run", report=silent)
    program = """
import sys
import numpy as np
from electra_keras.cli import main
run_dir, out, batches = sys.argv[1:]
for name in ("saved_model", "litert"):
    assert main(["export", "--run_dir", run_dir, "--to", name, "--out_dir", f"{out}/{name}"]) == 0
import tensorflow as tf
loaded = tf.saved_model.load(f"{out}/saved_model/saved_model")
interpreter = tf.lite.Interpreter(f"{out}/litert/detector.tflite")
interpreter.allocate_tensors()
results = {}
given = np.load(batches)
for key in ("any", "padded"):
    inputs = {name: given[f"{key}_{name}"] for name in ("token_ids", "segment_ids", "padding_mask")}
    if key == "any":
        results[key] = loaded.serve({name: tf.constant(value) for name, value in inputs.items()}).numpy()
        continue
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], next(value for name, value in inputs.items() if name in detail["name"]))
    interpreter.invoke()
    results[key] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
np.savez(f"{out}/results.npz", **results)
"""
    batches = {"any": batch(SHAPES[SMALL].vocab_size, 3, 9), "padded": batch(SHAPES[SMALL].vocab_size, 1, POSITIONS)}
    batches["padded"]["padding_mask"][0, 11:] = 0
    np.savez(tmp_path / "batches.npz", **{f"{key}_{name}": value for key, inputs in batches.items() for name, value in inputs.items()})
    arguments = [os.fspath(path) for path in (run.path, tmp_path, tmp_path / "batches.npz")]
    process = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert f"padded to {POSITIONS} tokens" in process.stdout
    with np.load(tmp_path / "results.npz") as results:
        for key, inputs in batches.items():
            real = inputs["padding_mask"] == 1
            np.testing.assert_allclose(results[key][real], expected_of(discriminator, inputs)[real], atol=1e-5, err_msg=key)


def test_the_command_line_offers_every_format(run, tmp_path, capsys):
    assert set(EXPORT_OPTIONS["--to"]["choices"]) == WRITERS.keys()
    assert main(["export", "--run_dir", os.fspath(run.path), "--to", "onnx", "--out_dir", os.fspath(tmp_path / "out")]) == 0
    assert "detector.onnx runs in onnxruntime" in capsys.readouterr().out
    assert (tmp_path / "out" / "detector.onnx").is_file()


def test_a_generator_alone_is_no_detector(tmp_path):
    save_pair(SHAPES[SMALL], tmp_path / "theirs")
    run = import_run(tmp_path / "theirs" / "generator", tmp_path / "run", report=silent)
    for name in FILE_WRITERS:
        with pytest.raises(UserError, match="no detection head, so there is no detector to export"):
            export_run(run.path, name, tmp_path / "out", report=silent)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "absent"), [("onnx", "onnx"), ("onnx_int8", "onnxruntime")])
def test_a_missing_package_is_named_with_the_extra(run, tmp_path, monkeypatch, name, absent):
    found = importlib.util.find_spec
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda package: None if package == absent else found(package))
    with pytest.raises(UserError, match=rf"needs {absent}. Install it with pip install -r requirements-export.txt"):
        export_run(run.path, name, tmp_path / "out", report=silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["saved_model", "litert"])
def test_keras_on_another_backend_is_named(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(keras_detector, "loaded_backend", lambda: "jax")
    with pytest.raises(BackendError, match="already loaded with jax"):
        FILE_WRITERS[name](run_encoders(run)[0], tmp_path)
    assert list(tmp_path.iterdir()) == []
