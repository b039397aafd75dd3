"""Times what `make demo` does, in a fresh run directory, and says how well the result detects.

python benchmarks/demo.py --out benchmarks/results/demo.json [--seeds 0 1 2]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from machine import describe

CONFIG = "configs/pretrain/tiny.yaml"


def timed(*arguments: str) -> tuple[float, str]:
    """Runs an electra-keras command; returns its seconds and what it printed."""
    started = time.perf_counter()
    process = subprocess.run([sys.executable, "-m", "electra_keras", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, process.stdout


def measure(data_dir: str, folder: str, seed: int) -> dict:
    """Trains and evaluates one run; the training seconds are the whole command's, with its start and compilation."""
    run_dir = str(pathlib.Path(folder) / f"run-{seed}")
    train_seconds, _ = timed("pretrain", "--config", CONFIG, "--run_dir", run_dir, "--data_dir", data_dir, "--training.seed", str(seed))
    evaluate_seconds, printed = timed("evaluate", "--run_dir", run_dir, "--data_dir", data_dir, "--format", "json")
    lines = [json.loads(line) for line in (pathlib.Path(run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
    return {
        "seed": seed,
        "train_seconds": round(train_seconds, 1),
        "evaluate_seconds": round(evaluate_seconds, 1),
        "median_tokens_per_second": statistics.median(speeds),
        **json.loads(printed),
    }


def main() -> None:
    """Prepares the built-in corpus once, then measures every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = str(pathlib.Path(folder) / "data")
        prepare_seconds, _ = timed("prepare", "--config", CONFIG, "--out_dir", data_dir)
        rows = [measure(data_dir, folder, seed) for seed in arguments.seeds]
        manifest = json.loads((pathlib.Path(data_dir) / "manifest.json").read_text(encoding="utf-8"))
    result = {
        "machine": machine,
        "config": CONFIG,
        "prepare_seconds": round(prepare_seconds, 1),
        "corpus": {
            name: {key: split[key] for key in ("documents", "characters", "num_tokens", "num_examples")}
            for name, split in manifest["splits"].items()
        },
        "rows": rows,
    }
    out = pathlib.Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print({name: row[name] for name in ("seed", "train_seconds", "detection_auc", "generator_loss")})


if __name__ == "__main__":
    main()
