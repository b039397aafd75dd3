"""Tries every inference format on every backend, with dynamic and static shapes, and measures int8.

    python benchmarks/formats.py --out benchmarks/results/formats.json [--run_dir D | --random_weights] [--data_dir D] [--rounds 30]

Every trial has a process of its own: it exports the detector, runs the file in its runtime and compares it with the Keras model. The
detector is that of a run, by default of runs/demo, and int8's AUC is measured on the run's held-out text; with --random_weights it is a
tiny one without a corpus, and there is no AUC. "reference onnx" is what `electra-keras export --to onnx` writes; the other formats are
those of Keras' `Model.export`. The converters that are not in the extra `export` (tf2onnx, jax2onnx, onnxscript, litert-torch, openvino)
are tried where they are installed, and fail by name where not.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from machine import describe

from electra_keras.backend import BACKENDS
from electra_keras.files import write_json

DEMO = "runs/demo"
# Format of Model.export, and what runs its file.
FORMATS = (
    ("onnx", "onnxruntime"),
    ("tf_saved_model", "tensorflow"),
    ("litert", "ai_edge_litert"),
    ("litert", "tensorflow.lite"),
    ("openvino", "openvino"),
    ("torch", "torch"),
)
REFERENCES = ("reference onnx", "reference onnx int8")
CONVERTERS = ("onnx", "onnxruntime", "tf2onnx", "onnxscript", "jax2onnx", "ai-edge-litert", "litert-torch", "openvino")
TIMEOUT_SECONDS = 300
HELD_OUT_EXAMPLES = 1024


def run_trial(job: dict, backend: str) -> dict:
    """Runs one job in a process of its own; returns its result, or its error."""
    script = pathlib.Path(__file__).with_name("format_trials.py")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, os.fspath(script), json.dumps({**job, "folder": folder})]
        try:
            process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {TIMEOUT_SECONDS} s"}
    lines = process.stdout.decode("utf-8", "replace").strip().splitlines()
    if process.returncode or not lines:
        return {"error": f"the process ended with code {process.returncode}"}
    return json.loads(lines[-1])


def try_formats(run_dir: str | None) -> list[dict]:
    """Returns one row for each backend, format and kind of shapes."""
    jobs = [(backend, *pair, shapes) for backend, pair, shapes in itertools.product(BACKENDS, FORMATS, ("dynamic", "static"))]
    jobs = [(backend, name, "onnxruntime", "dynamic") for backend, name in itertools.product(BACKENDS, REFERENCES)] + jobs
    rows = []
    for backend, name, runtime, shapes in jobs:
        job = {"kind": "format", "format": name, "runtime": runtime, "shapes": shapes, "run_dir": run_dir}
        rows.append({"backend": backend, "format": name, "runtime": runtime, "shapes": shapes, **run_trial(job, backend)})
        print(table_line(rows[-1]), flush=True)
    return rows


def try_int8(arguments: argparse.Namespace) -> dict:
    """Returns size, speed and AUC in int8 over float32: of the reference file, and of Keras' own quantization on every backend."""
    with tempfile.TemporaryDirectory() as folder:
        held_out = os.fspath(pathlib.Path(folder) / "held_out.npz") if arguments.run_dir else None
        result: dict = {"held_out": None, "rows": []}
        common = {"run_dir": arguments.run_dir, "data_dir": arguments.data_dir}
        if held_out:
            result["held_out"] = run_trial({"kind": "corrupt", "path": held_out, "num_examples": HELD_OUT_EXAMPLES, **common}, "jax")
            held_out = None if "error" in result["held_out"] else held_out
        for name, backend in (("onnx", "jax"), *(("keras", backend) for backend in BACKENDS)):
            job = {"kind": "int8", "format": name, "held_out": held_out, "rounds": arguments.rounds, "sequence_length": 128, **common}
            label = "reference onnx" if name == "onnx" else f"keras int8, {backend}"
            result["rows"].append({"name": label, **run_trial(job, backend)})
            print(result["rows"][-1], flush=True)
    return result


def table_line(row: dict) -> str:
    """Formats a row as Markdown."""
    outcome = f"fails: {row['error']}" if "error" in row else f"works, differs by at most {row['max_abs_difference']:.0e}"
    return f"| {row['backend']} | {row['format']} | {row['runtime']} | {row['shapes']} | {outcome} |"


def installed_versions() -> dict[str, str | None]:
    """Returns the converters' and runtimes' versions, None for what is not installed."""
    versions: dict[str, str | None] = {}
    for name in CONVERTERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def chosen_run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> str | None:
    """Returns the run whose detector is tried, None for random weights; leaves with a message where there is no run.

    Random weights have to be asked for: their figures would else take the place of a trained detector's.
    """
    if arguments.random_weights:
        if arguments.run_dir:
            parser.error("--run_dir and --random_weights are both given; give one.")
        return None
    run_dir = arguments.run_dir or DEMO
    if not (pathlib.Path(run_dir) / "run.json").is_file():
        parser.error(f"there is no run in {run_dir}. Train the demo with `make demo`, or give --run_dir D or --random_weights.")
    return run_dir


def described_detector(run_dir: str | None) -> dict:
    """Returns whose detector the figures are about, for the JSON: no path, but what tells two runs apart."""
    if run_dir is None:
        return {"kind": "random weights"}
    run = json.loads((pathlib.Path(run_dir) / "run.json").read_text(encoding="utf-8"))
    return {"kind": "trained", "run": pathlib.Path(run_dir).resolve().name, "weights_sha256": run.get("weights_sha256")}


def main() -> None:
    """Tries everything, then writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--run_dir", help=f"run whose detector is exported (default: {DEMO})")
    parser.add_argument("--random_weights", action="store_true", help="a tiny detector with random weights instead of a run's")
    parser.add_argument("--data_dir", help="the run's prepared data, if not inside it")
    parser.add_argument("--rounds", type=int, default=30, help="turns of the int8 timing")
    parser.add_argument("--only", choices=["formats", "int8"], help="one of the two parts; the other stays in --out as it is")
    arguments = parser.parse_args()
    arguments.run_dir = chosen_run(arguments, parser)
    out = pathlib.Path(arguments.out)
    result = json.loads(out.read_text(encoding="utf-8")) if arguments.only and out.is_file() else {}
    # Each part says what it ran on: they may have been measured apart.
    origin = {"machine": describe(), "converters": installed_versions(), "detector": described_detector(arguments.run_dir)}
    if arguments.only != "formats":
        result["int8"] = {**origin, **try_int8(arguments)}
    if arguments.only != "int8":
        result["formats"] = {**origin, "rows": try_formats(arguments.run_dir)}
    write_json(out, result)


if __name__ == "__main__":
    main()
