"""Measures tokens per second of a training step: ours on every backend, and the Hugging Face loops, side by side.

    python benchmarks/throughput.py --out benchmarks/results/throughput.json [--shapes bench_tiny small_128 small_512]
        [--engines jax tensorflow torch hf hf_compile hf_gathered hf_gathered_compile] [--precisions float32 mixed_bfloat16]
        [--dropout 0.0 0.1] [--steps 5] [--rounds 5]

Every engine has a process of its own. The engines of one shape, precision and dropout are alive together and take turns (A B C A B C),
one running while the others wait, so that whatever else the machine does hits all alike; the medians over the rounds are compared.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

from engines import MATMUL_ENGINES, MATMUL_SIZE, OUR_ENGINES, Job
from shapes import SHAPES, model_flops

from electra_keras.files import write_json

PEER_ENGINES = ("hf", "hf_compile", "hf_gathered", "hf_gathered_compile")
USUAL_PEER = "hf"
PRECISIONS = ("float32", "mixed_bfloat16")


class Worker:
    """The process of one engine."""

    def __init__(self, job: Job):
        self.job = job
        self.seconds: list[float] = []
        self.peak_rss = 0
        script = pathlib.Path(__file__).with_name("engines.py")
        command = [sys.executable, os.fspath(script), json.dumps(dataclasses.asdict(job))]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.warmup_seconds = self._answer()["warmup_seconds"]

    def run(self, steps: int) -> None:
        """Takes one turn."""
        self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.peak_rss = answer["peak_rss"]

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process of {self.job} ended with code {self._process.wait()}; its message stands above.")
        return json.loads(line)


def measure(jobs: list[Job], steps: int, rounds: int) -> list[dict]:
    """Returns one row for each job; all of them take turns."""
    workers: list[Worker] = []
    try:
        for job in jobs:
            workers.append(Worker(job))
            print(f"{job.engine}: ready after {workers[-1].warmup_seconds:.1f} s", file=sys.stderr, flush=True)
        for _, worker in itertools.product(range(rounds), workers):
            worker.run(steps)
    finally:
        for worker in workers:
            worker.close()
    return compare([row_of(worker) for worker in workers])


def row_of(worker: Worker) -> dict:
    """Returns what one engine did, without comparison."""
    job, shape = worker.job, SHAPES[worker.job.shape]
    seconds = statistics.median(worker.seconds)
    is_product = job.engine in MATMUL_ENGINES
    flops = 2.0 * MATMUL_SIZE**3 if is_product else model_flops(shape)
    return {
        "name": f"{job.engine} {job.shape} {job.precision} dropout {job.dropout}",
        **dataclasses.asdict(job),
        "tokens_per_second": None if is_product else round(shape.tokens / seconds, 1),
        "step_seconds": round(seconds, 5),
        "round_seconds": [round(value, 5) for value in worker.seconds],
        "warmup_seconds": round(worker.warmup_seconds, 1),
        "peak_rss": worker.peak_rss,
        "model_flops": flops,
        "flops_per_second": flops / seconds,
    }


def compare(rows: list[dict]) -> list[dict]:
    """Adds to every row its ratios, each the median over the rounds of the ratio within a round.

    speed_over_hf: against the usual loop; speed_over_fastest_peer: against the peer with the best median; matmul_share: operations the
    model needs per second, over those of the faster large product.
    """
    peers = [row for row in rows if row["engine"] in PEER_ENGINES]
    usual = next((row for row in peers if row["engine"] == USUAL_PEER), None)
    fastest = min(peers, key=lambda row: row["step_seconds"], default=None)
    products = [row for row in rows if row["engine"] in MATMUL_ENGINES]
    product = max(products, key=lambda row: row["flops_per_second"], default=None)
    for row in rows:
        if row in products:
            continue
        row["speed_over_hf"] = speed_ratio(row, usual)
        row["speed_over_fastest_peer"] = speed_ratio(row, fastest)
        row["fastest_peer"] = fastest and fastest["engine"]
        row["matmul_share"] = None if product is None else round(row["flops_per_second"] / product["flops_per_second"], 3)
    return rows


def speed_ratio(row: dict, other: dict | None) -> float | None:
    """Returns how many times as fast a row is as another."""
    if other is None:
        return None
    return round(statistics.median(b / a for a, b in zip(row["round_seconds"], other["round_seconds"], strict=True)), 3)


def table(rows: list[dict]) -> str:
    """Formats the rows as Markdown."""
    lines = [
        "| shape | precision | dropout | engine | tokens/s | over hf | over fastest peer | of matmul | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["tokens_per_second"] is not None:
            figures = (row["speed_over_hf"], row["speed_over_fastest_peer"], row["matmul_share"])
            shown = " | ".join("-" if figure is None else f"{figure:.2f}" for figure in figures)
            lines.append(
                f"| {row['shape']} | {row['precision']} | {row['dropout']} | {row['engine']} | {row['tokens_per_second']:,.0f} "
                f"| {shown} | {row['peak_rss'] / 1e6:,.0f} MB |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures every combination and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=["bench_tiny", "small_128", "small_512"])
    engines = [*OUR_ENGINES, *PEER_ENGINES, *MATMUL_ENGINES]
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.0, 0.1], help="hidden and attention dropout")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every engine")
    arguments = parser.parse_args()
    rows: list[dict] = []
    for shape, precision, dropout in itertools.product(arguments.shapes, arguments.precisions, arguments.dropout):
        jobs = [Job(engine, precision, shape, dropout) for engine in arguments.engines]
        rows += measure(jobs, arguments.steps, arguments.rounds)
        # Written after every group, so that a run cut short leaves what it has measured.
        write_json(arguments.out, {"machine": machine(), "steps": arguments.steps, "rounds": arguments.rounds, "rows": rows})
    print(table(rows))


def machine() -> dict:
    """Returns what the figures depend on."""
    return {"platform": platform.platform(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
