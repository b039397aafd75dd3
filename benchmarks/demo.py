"""Measures what `make demo` trains: how long it took, and how well the result detects.

    python benchmarks/demo.py --out benchmarks/results/demo.json [--run_dir runs/demo] [--data_dir D]

A run that is not there yet is trained first. Training seconds are those between the run's creation and its weights: compilation,
validation and checkpoints included, preparing the corpus not.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from machine import describe

from electra_keras.files import write_json

CONFIG = "configs/pretrain/tiny.yaml"


def command(*arguments: str) -> str:
    """Runs an electra-keras command and returns what it printed."""
    process = subprocess.run([sys.executable, "-m", "electra_keras", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return process.stdout


def main() -> None:
    """Trains the run where it is missing, evaluates it and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--run_dir", default="runs/demo")
    parser.add_argument("--data_dir", help="prepared data, if not inside the run directory")
    arguments = parser.parse_args()
    run, data = pathlib.Path(arguments.run_dir), ["--data_dir", arguments.data_dir] if arguments.data_dir else []
    machine = describe()
    command("pretrain", "--config", CONFIG, "--run_dir", arguments.run_dir, "--resume", "true", *data)
    figures = json.loads(command("evaluate", "--run_dir", arguments.run_dir, "--format", "json", *data))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    manifest = json.loads((pathlib.Path(arguments.data_dir or run / "data") / "manifest.json").read_text(encoding="utf-8"))
    result = {
        "machine": machine,
        "config": CONFIG,
        "num_steps": lines[-1]["step"],
        "train_seconds": round((run / "weights.safetensors").stat().st_mtime - (run / "vocab.txt").stat().st_mtime, 1),
        "median_tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines if "tokens_per_second" in line),
        "evaluation": figures,
        "corpus": {
            name: {key: split[key] for key in ("documents", "characters", "num_tokens", "num_examples")}
            for name, split in manifest["splits"].items()
        },
    }
    write_json(arguments.out, result)
    print(json.dumps({key: result[key] for key in ("train_seconds", "median_tokens_per_second", "evaluation")}, indent=2))


if __name__ == "__main__":
    main()
