"""Measures detection: ours on every backend and Hugging Face's loop, on the same weights and texts, side by side.

    python benchmarks/latency.py --out benchmarks/results/latency.json [--run_dir runs/demo] [--engines jax tensorflow torch hf]
        [--lines 10000] [--rounds 5] [--repeats 20] [--starts 5]

Three figures: p50 and p95 of one text of 128 tokens (or of the model's length), from text to probabilities; texts per second over a
file's lines; and the wall seconds of whole processes, `electra-keras --help` and `electra-keras detect --text` on JAX. Without --run_dir
the model has the paper's small shape and random weights. Hugging Face's side is ElectraForPreTraining with BertTokenizerFast, the usual
loop (batches of 32 in file order, padded to the longest) and one that sorts by length first. Every engine has a process of its own; all
are alive together and take turns (A B C A B C), one running while the others wait, so that whatever else the machine does hits all alike.
Ratios are medians over the rounds of the ratio within a round. Before anything is timed, the probabilities of all engines are compared.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from accelerator import SHARED_MEMORY
from latency_engines import OUR_ENGINES
from latency_material import Material, choose_material, corpus_lines, write_random_run
from machine import describe
from turns import EngineProcess, speed_ratio

from electra_keras.artifacts import RunDirectory
from electra_keras.files import write_json
from electra_keras.interop.exporting import export_run

PEER = "hf"
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Worker:
    """The process of one engine."""

    def __init__(self, job: dict):
        self.engine = job["engine"]
        self.seconds: dict[str, list[list[float]]] = {}
        self.peak_rss = 0
        settings = {"PYTHONPATH": os.fspath(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", **SHARED_MEMORY}
        self.process = EngineProcess("latency_engines.py", job, settings)
        self.ready = self.process.answer()

    def run(self, task: str, repeats: int) -> None:
        """Takes one turn."""
        answer = self.process.ask({"task": task, "repeats": repeats})
        self.seconds.setdefault(task, []).append(answer["seconds"])
        self.peak_rss = answer["peak_rss"]


def measure(engines: list[str], run: RunDirectory, material: Material, folder: pathlib.Path, rounds: int, repeats: int) -> list[dict]:
    """Returns one row for every engine and way through the file; all engines take turns."""
    export_run(run.path, "huggingface", folder / "huggingface", report=lambda line: None)
    write_json(folder / "lines.json", material.lines)
    common = {
        "run": os.fspath(run.path.resolve()),
        "huggingface": os.fspath(folder / "huggingface" / "discriminator"),
        "max_length": run.config.packing.sequence_length,
        "lines": os.fspath(folder / "lines.json"),
        "text": material.text,
    }
    workers: list[Worker] = []
    try:
        for engine in engines:
            workers.append(Worker({**common, "engine": engine, "probabilities": os.fspath(folder / engine)}))
            print(f"{engine}: ready after {sum_seconds(workers[-1]):.1f} s", file=sys.stderr, flush=True)
        for _ in range(rounds):
            for task, times in (("text", repeats), ("file", 1), ("file_sorted", 1)):
                for worker in workers:
                    if task in worker.ready["tasks"]:
                        worker.run(task, times)
    finally:
        for worker in workers:
            worker.process.close()
    return compare([row_of(worker, material) for worker in workers], {engine: probabilities(folder, engine) for engine in engines})


def sum_seconds(worker: Worker) -> float:
    """Returns how long an engine took to load and to score everything for the first time."""
    return worker.ready["load_seconds"] + worker.ready["first_seconds"]


def probabilities(folder: pathlib.Path, engine: str) -> dict[str, np.ndarray]:
    """Returns what an engine computed, by task."""
    return {path.stem.removeprefix(f"{engine}-"): np.load(path) for path in folder.glob(f"{engine}-*.npy")}


def row_of(worker: Worker, material: Material) -> dict:
    """Returns what one engine did, without comparison."""
    single = [seconds for turn in worker.seconds["text"] for seconds in turn]
    row = {
        "engine": worker.engine,
        "text_p50_seconds": round(float(np.quantile(single, 0.5)), 6),
        "text_p95_seconds": round(float(np.quantile(single, 0.95)), 6),
        "text_round_seconds": [round(statistics.median(turn), 6) for turn in worker.seconds["text"]],
        "load_seconds": round(worker.ready["load_seconds"], 2),
        "first_seconds": round(worker.ready["first_seconds"], 2),
        "peak_rss": worker.peak_rss,
    }
    for task in ("file", "file_sorted"):
        if task in worker.seconds:
            seconds = [turn[0] for turn in worker.seconds[task]]
            row[f"{task}_round_seconds"] = [round(value, 4) for value in seconds]
            row[f"{task}_texts_per_second"] = round(len(material.lines) / statistics.median(seconds), 1)
            row[f"{task}_tokens_per_second"] = round(material.num_tokens / statistics.median(seconds), 1)
    return row


def compare(rows: list[dict], scores: dict[str, dict[str, np.ndarray]]) -> list[dict]:
    """Adds to every row how many times as fast as Hugging Face it is, and by how much its probabilities differ at most.

    text_speed_over_hf; file_speed_over_hf, against the usual loop; file_speed_over_hf_sorted; max_difference: of any probability of
    the text or of a line.
    """
    peer = next((row for row in rows if row["engine"] == PEER), None)
    if peer is None:
        return rows
    for row in rows:
        theirs, ours = scores[PEER], scores[row["engine"]]
        pairs = [(values, theirs["text" if task == "text" else "file"]) for task, values in ours.items()]
        row["max_difference"] = float(max(np.abs(a - b).max() for a, b in pairs))
        row["text_speed_over_hf"] = speed_ratio(row["text_round_seconds"], peer["text_round_seconds"])
        row["file_speed_over_hf"] = speed_ratio(row["file_round_seconds"], peer["file_round_seconds"])
        row["file_speed_over_hf_sorted"] = speed_ratio(row["file_round_seconds"], peer["file_sorted_round_seconds"])
    return rows


def measure_starts(run: RunDirectory, text: str, starts: int, folder: pathlib.Path) -> dict:
    """Returns the wall seconds of whole processes on JAX; the first `detect` finds no compiled functions, the others find its own."""
    detect = ["detect", "--model", os.fspath(run.path.resolve()), "--text", text, "--format", "json"]
    started = {"help": [wall_seconds(["--help"], folder) for _ in range(starts)], "detect_first": [wall_seconds(detect, folder)]}
    started["detect"] = [wall_seconds(detect, folder) for _ in range(starts)]
    return {f"{name}_seconds": round(statistics.median(seconds), 3) for name, seconds in started.items()} | {
        f"{name}_all_seconds": [round(value, 3) for value in seconds] for name, seconds in started.items()
    }


def wall_seconds(arguments: list[str], folder: pathlib.Path) -> float:
    """Runs one command, whose compiled functions go under a folder; returns its wall seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"KERAS_BACKEND": "jax", "XDG_CACHE_HOME": os.fspath(folder / "cache"), "PYTHONPATH": os.fspath(ROOT)}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "electra_keras", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def table(rows: list[dict]) -> str:
    """Formats the rows as Markdown."""
    lines = ["| engine | one text p50 | p95 | over hf | texts/s | over hf | over hf sorted | largest difference |", "|" + "---|" * 8]
    for row in rows:
        ratios = [row.get(name) for name in ("text_speed_over_hf", "file_speed_over_hf", "file_speed_over_hf_sorted")]
        shown = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        difference = "-" if "max_difference" not in row else f"{row['max_difference']:.1e}"
        lines.append(
            f"| {row['engine']} | {row['text_p50_seconds'] * 1e3:.1f} ms | {row['text_p95_seconds'] * 1e3:.1f} ms | {shown[0]} "
            f"| {row['file_texts_per_second']:,.0f} | {shown[1]} | {shown[2]} | {difference} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--run_dir", help="a trained run (default: random weights of the paper's small shape)")
    parser.add_argument("--engines", nargs="+", choices=[*OUR_ENGINES, PEER], default=[*OUR_ENGINES, PEER])
    parser.add_argument("--lines", type=int, default=10_000, help="lines of the file")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every engine")
    parser.add_argument("--repeats", type=int, default=20, help="times that one turn scores the single text")
    parser.add_argument("--starts", type=int, default=5, help="starts of each command; 0 for none")
    arguments = parser.parse_args()
    candidates = corpus_lines()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run = RunDirectory.open(arguments.run_dir) if arguments.run_dir else write_random_run(folder / "run", candidates)
        material = choose_material(run, candidates, arguments.lines)
        result = {
            "machine": describe(),
            "model": "random weights, small" if arguments.run_dir is None else pathlib.Path(arguments.run_dir).name,
            "text_tokens": material.text_tokens,
            "lines": len(material.lines),
            "tokens_per_line": round(material.num_tokens / len(material.lines), 1),
            "rounds": arguments.rounds,
        }
        starts = measure_starts(run, material.text, arguments.starts, folder) if arguments.starts else None
        rows = measure(arguments.engines, run, material, folder, arguments.rounds, arguments.repeats)
    write_json(arguments.out, {**result, "starts": starts, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
