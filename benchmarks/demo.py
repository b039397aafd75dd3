"""Measures what `make demo` trains: how long it takes, and how well the result detects.

    python benchmarks/demo.py --out benchmarks/results/demo.json [--run_dir runs/bench_demo] [--data_dir D]

The run directory must be new: seconds are those of whole commands, from the shell's prompt to its return. Preparing the corpus
(reading docstrings, training the vocabulary, packing) is timed apart from training, which includes starting up, compiling, the
statistics that the weights start from, validation and checkpoints.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from machine import describe

from electra_keras.files import write_json

CONFIG = "configs/pretrain/tiny.yaml"
# What each split of the manifest is described by.
SPLIT_FIGURES = ("documents", "characters", "num_tokens", "num_examples")


def command(*arguments: str) -> tuple[str, float]:
    """Runs an electra-keras command; returns what it printed and the seconds it took."""
    started = time.perf_counter()
    process = subprocess.run([sys.executable, "-m", "electra_keras", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return process.stdout, round(time.perf_counter() - started, 1)


def main() -> None:
    """Prepares, trains, evaluates and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--run_dir", default="runs/bench_demo", help="a new folder")
    parser.add_argument("--data_dir", help="where the prepared data is or goes; inside the run directory by default")
    arguments = parser.parse_args()
    run = pathlib.Path(arguments.run_dir)
    if run.exists():
        parser.error(f"{run} exists already; its seconds cannot be measured any more. Name a new folder, or remove it.")
    data_dir = pathlib.Path(arguments.data_dir or run / "data")
    machine = describe()
    _, prepare_seconds = command("prepare", "--config", CONFIG, "--out_dir", str(data_dir))
    _, train_seconds = command("pretrain", "--config", CONFIG, "--run_dir", str(run), "--data_dir", str(data_dir))
    evaluation, _ = command("evaluate", "--run_dir", str(run), "--data_dir", str(data_dir), "--format", "json")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reports = [line for line in lines if "tokens_per_second" in line]
    manifest = json.loads((data_dir / "manifest.json").read_text(encoding="utf-8"))
    result = {
        "machine": machine,
        "config": CONFIG,
        "num_steps": lines[-1]["step"],
        "prepare_seconds": prepare_seconds,
        "train_seconds": train_seconds,
        "median_tokens_per_second": statistics.median(line["tokens_per_second"] for line in reports),
        "median_input_wait_fraction": statistics.median(line["input_wait_fraction"] for line in reports),
        "evaluation": json.loads(evaluation),
        "corpus": {name: {figure: split[figure] for figure in SPLIT_FIGURES} for name, split in manifest["splits"].items()},
    }
    write_json(arguments.out, result)
    print(json.dumps({name: result[name] for name in ("prepare_seconds", "train_seconds", "evaluation")}, indent=2))


if __name__ == "__main__":
    main()
