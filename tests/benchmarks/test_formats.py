import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime", reason="the extra electra-keras[export] is not installed")
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
