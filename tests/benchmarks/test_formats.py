import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


def trial(folder, **job):
    command = [sys.executable, BENCHMARKS / "format_trials.py", json.dumps({"run_dir": None, "folder": str(folder), **job})]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def test_the_reference_works_and_its_difference_is_measured(tmp_path):
    result = trial(tmp_path, kind="format", format="reference onnx", runtime="onnxruntime", shapes="dynamic")
    assert result.keys() == {"max_abs_difference", "megabytes"}
    assert 0 < result["max_abs_difference"] < 1e-5
    assert result["megabytes"] == pytest.approx((tmp_path / "detector.onnx").stat().st_size / 1e6, abs=1e-3)


def test_a_converter_that_fails_is_a_row(tmp_path):
    result = trial(tmp_path, kind="format", format="torch", runtime="torch", shapes="static")
    assert result == {"error": "ValueError: Torch export requires PyTorch backend."}


def test_weights_beside_the_file_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import format_trials

    def export(model, path, *arguments):
        path.write_bytes(b"x" * 1_000)
        path.with_suffix(".bin").write_bytes(b"x" * 9_000)

    def zeros(inputs):
        return np.zeros(inputs["token_ids"].shape, np.float32)

    # Of Keras nothing is needed here, and a test that runs under no backend loads none.
    backend, ops = types.SimpleNamespace(backend=lambda: "jax"), types.SimpleNamespace(convert_to_numpy=np.asarray)
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(backend=backend, ops=ops))
    monkeypatch.setattr(format_trials, "build_keras_detector", lambda discriminator: zeros)
    monkeypatch.setattr(format_trials, "keras_export", export)
    monkeypatch.setitem(format_trials.RUNNERS, "openvino", lambda path: zeros)
    job = {"format": "openvino", "runtime": "openvino", "shapes": "static", "run_dir": None, "folder": str(tmp_path)}
    assert format_trials.try_format(job)["megabytes"] == 0.01


def test_openvino_is_given_each_input_by_any_of_its_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import format_trials

    names = [{"200", "indices", "token_ids"}, {"segment_ids"}, {"padding_mask", "mask"}]
    compiled = Compiled([types.SimpleNamespace(get_names=lambda names=names: names, any_name=min(names)) for names in names])
    core = types.SimpleNamespace(compile_model=lambda path: compiled)
    monkeypatch.setitem(sys.modules, "openvino", types.SimpleNamespace(Core=lambda: core))
    assert format_trials.openvino_runner(tmp_path)({"padding_mask": 3, "token_ids": 1, "segment_ids": 2}) == [1, 2, 3]


class Compiled:
    """A model whose result is what it was given."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __call__(self, values):
        return [values]


def test_int8_is_compared_in_size_and_speed(tmp_path):
    result = trial(tmp_path, kind="int8", format="onnx", rounds=3, sequence_length=16, held_out=None)
    assert result["detection_auc"] == {"float32": None, "int8": None}
    assert result["megabytes"]["float32"] > result["megabytes"]["int8"] > 0
    assert result["size_ratio"] == pytest.approx(result["megabytes"]["int8"] / result["megabytes"]["float32"], abs=1e-3)
    assert all(seconds > 0 for seconds in result["seconds"].values()) and result["speed_over_float32"] > 0


def test_frames_around_an_error_are_passed_over(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from format_trials import first_line

    assert first_line("Exception encountered when calling Embeddings.call().\n\n\x1b[1mbad slice\x1b[0m\n\nArguments") == "bad slice"
    assert first_line("Graph execution error:\n\nUNKNOWN: cannot deserialize") == "UNKNOWN: cannot deserialize"
    assert first_line("Graph execution error:") == "Graph execution error:"
    assert first_line("at /some/place/lib/python3.11/site-packages/keras/x.py:3") == "at keras/x.py:3"
    assert first_line("") == "no message"


def run_formats(folder, *words):
    """Runs the script in a folder without runs; returns the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), *sys.path])}
    command = [sys.executable, BENCHMARKS / "formats.py", "--out", str(folder / "formats.json"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no run in runs/demo. Train the demo with `make demo`"),
        (["--run_dir", "absent"], "there is no run in absent."),
        (["--run_dir", "absent", "--random_weights"], "are both given"),
    ],
)
def test_random_weights_never_stand_in_for_a_run(tmp_path, words, message):
    (tmp_path / "formats.json").write_text("measured")
    process = run_formats(tmp_path, *words)
    assert process.returncode == 2 and message in process.stderr and "Traceback" not in process.stderr
    assert (tmp_path / "formats.json").read_text() == "measured"


def test_the_figures_say_whose_they_are(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from formats import described_detector

    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").write_text('{"weights_sha256": "abc"}')
    assert described_detector(str(tmp_path / "demo")) == {"kind": "trained", "run": "demo", "weights_sha256": "abc"}
    assert described_detector(None) == {"kind": "random weights"}


def test_the_part_that_is_not_measured_stays(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import formats

    monkeypatch.setattr(formats, "try_formats", lambda run_dir: ["new row"])
    monkeypatch.setattr(formats, "try_int8", lambda arguments: {"rows": ["new int8"]})
    out = tmp_path / "formats.json"
    for words, expected in (
        ([], (["new row"], ["new int8"])),
        (["--only", "int8"], (["kept"], ["new int8"])),
        (["--only", "formats"], (["new row"], ["kept"])),
    ):
        out.write_text(json.dumps({"formats": {"rows": ["kept"]}, "int8": {"rows": ["kept"]}}))
        monkeypatch.setattr(sys, "argv", ["formats.py", "--out", str(out), "--random_weights", *words])
        formats.main()
        result = json.loads(out.read_text())
        assert (result["formats"]["rows"], result["int8"]["rows"]) == expected
        measured = [part for part in result.values() if part["rows"] != ["kept"]]
        assert all(part["detector"] == {"kind": "random weights"} and "cores" in part["machine"] for part in measured)
