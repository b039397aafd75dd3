"""The points of the scaling benchmark, its plot, and a run at the smallest size."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib")

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "scaling.py"


@pytest.fixture(autouse=True)
def beside_the_script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)


def test_the_shape_itself_is_measured_once():
    from scaling import points

    found = points("bench_tiny", {"batch_size": [16, 32], "sequence_length": [64, 128], "num_layers": [4, 8]})
    assert found == [{"batch_size": 16}, {}, {"sequence_length": 64}, {"num_layers": 8}]


def test_changed_sizes_reach_the_shape_and_its_operations():
    from engines import Job
    from products import model_flops

    plain = Job("jax", "float32", "bench_tiny", 0.1)
    wide = Job("jax", "float32", "bench_tiny", 0.1, {"batch_size": 64})
    deep = Job("jax", "float32", "bench_tiny", 0.1, {"num_layers": 8})
    long = Job("jax", "float32", "bench_tiny", 0.1, {"sequence_length": 256})
    assert model_flops(wide.sized()) == 2 * model_flops(plain.sized())
    assert (deep.sized().model.num_layers, deep.sized().batch_size, deep.sized().model.dropout) == (8, 32, 0.1)
    # Attention over twice the length costs twice as much a token.
    assert model_flops(long.sized()) > 2 * model_flops(plain.sized())


def test_a_line_holds_the_points_of_its_size_in_order():
    from scaling_plot import series

    rows = [
        {"engine": "jax", "changes": {"batch_size": 64}, "value": 3.0},
        {"engine": "jax", "changes": {}, "value": 2.0},
        {"engine": "jax", "changes": {"num_layers": 8}, "value": 9.0},
        {"engine": "hf", "changes": {"batch_size": 16}, "value": 1.0},
    ]
    assert series(rows, "batch_size", 32, "value") == {"jax": [(32, 2.0), (64, 3.0)], "hf": [(16, 1.0)]}


def test_a_run_at_the_smallest_size(tmp_path):
    pytest.importorskip("transformers")
    out, plot = tmp_path / "scaling.json", tmp_path / "scaling.svg"
    command = [sys.executable, SCRIPT, "--out", out, "--plot", plot, "--shape", "smoke", "--engines", "hf_gathered", "--steps", "1"]
    command += ["--rounds", "1", "--batch_sizes", "2", "4", "--lengths", "--layers"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.fspath(ROOT)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["changes"], row["tokens"]) for row in rows] == [({}, 32), ({"batch_size": 4}, 64)]
    assert rows[1]["model_flops"] == 2 * rows[0]["model_flops"]
    assert all(row["flops_per_second"] == pytest.approx(row["model_flops"] / row["step_seconds"], rel=0.01) for row in rows)
    drawn = plot.read_text()
    assert "hf_gathered" in drawn
    assert "examples a batch" in drawn
