"""Engines side by side: a process for each, which take turns, and a file of rows that several sittings fill."""

import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import sys

from accelerator import SHARED_MEMORY
from engines import MATMUL_ENGINES, Job, matmul_size
from machine import describe, differences
from products import model_flops
from turns import EngineProcess

from electra_keras.files import write_json
from electra_keras.huge_pages import SETTING, TUNABLES

GROUP_FIELDS = ("shape", "changes", "precision", "dropout")


class Worker:
    """The process of one engine."""

    def __init__(self, job: Job):
        self.job = job
        self.seconds: list[float] = []
        self.memory: dict[str, int] = {}
        # Large pages for all alike, as `electra-keras pretrain` sets them for itself.
        settings = {"TF_CPP_MIN_LOG_LEVEL": "2", "TOKENIZERS_PARALLELISM": "false", TUNABLES: f"{SETTING}=1", **SHARED_MEMORY}
        self.process = EngineProcess("engines.py", dataclasses.asdict(job), settings)
        try:
            self.warmup_seconds = self.process.answer()["warmup_seconds"]
        except BaseException:
            self.process.close()
            raise

    def run(self, steps: int) -> None:
        """Takes one turn."""
        answer = self.process.ask({"steps": steps})
        self.seconds.append(answer.pop("seconds"))
        self.memory = answer


def measure(jobs: list[Job], steps: int, rounds: int) -> list[dict]:
    """Returns one row for each job; all of them take turns.

    Raises:
        RuntimeError: an engine's process ended; the others are ended too.
    """
    workers: list[Worker] = []
    load = os.getloadavg()[0]
    try:
        for job in jobs:
            workers.append(Worker(job))
            print(f"{job.engine}: ready after {workers[-1].warmup_seconds:.1f} s", file=sys.stderr, flush=True)
        for _, worker in itertools.product(range(rounds), workers):
            worker.run(steps)
    finally:
        for worker in workers:
            worker.process.close()
    return [{**row_of(worker), "steps": steps, "load_average_1m": round(load, 2)} for worker in workers]


def row_of(worker: Worker) -> dict:
    """Returns what one engine did, without comparison; seconds and bytes."""
    job = worker.job
    shape = job.sized()
    seconds = statistics.median(worker.seconds)
    is_product = job.engine in MATMUL_ENGINES
    flops = 2.0 * matmul_size() ** 3 if is_product else model_flops(shape)
    return {
        **dataclasses.asdict(job),
        "tokens": shape.tokens,
        "tokens_per_second": None if is_product else round(shape.tokens / seconds, 1),
        "step_seconds": round(seconds, 5),
        "round_seconds": [round(value, 5) for value in worker.seconds],
        "warmup_seconds": round(worker.warmup_seconds, 1),
        **worker.memory,
        "model_flops": flops,
        "flops_per_second": flops / seconds,
    }


class Table:
    """The rows of a results file, which may be filled in several sittings on one machine.

    Args:
        path: JSON file; what it holds is kept.
        steps: of a turn; groups of another number of steps or turns are measured anew.
        rounds: turns of every engine.
        again: forget the groups that are asked for, and measure them anew.

    Raises:
        SystemExit: the file is of another processor, GPU or of other versions, which no table may mix.
    """

    def __init__(self, path: str | os.PathLike, steps: int, rounds: int, again: bool = False):
        self.path, self.steps, self.rounds, self.again = pathlib.Path(path), steps, rounds, again
        self.machine = describe()
        self.rows: list[dict] = []
        if self.path.exists():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            if changed := differences(before["machine"], self.machine):
                raise SystemExit(f"{self.path} was measured with other {', '.join(changed)}; give another --out or remove it.")
            self.rows = before["rows"]

    def lacks(self, jobs: list[Job]) -> bool:
        """Tells whether a group has to be measured: an engine is missing, or it took other turns."""
        if self.again:
            return True
        found = {row["engine"] for row in self.group(jobs) if (row["steps"], len(row["round_seconds"])) == (self.steps, self.rounds)}
        return not {job.engine for job in jobs} <= found

    def with_measured(self, jobs: list[Job]) -> list[Job]:
        """Returns what to measure so that a group lacks none of the jobs and loses no engine that it holds.

        Rows are compared that took turns in one sitting, so that a single engine cannot be added to others' rows.
        """
        engines = [row["engine"] for row in self.group(jobs)] + [job.engine for job in jobs]
        return [dataclasses.replace(jobs[0], engine=engine) for engine in dict.fromkeys(engines)]

    def group(self, jobs: list[Job]) -> list[dict]:
        """Returns the rows there are of a group."""
        return [row for row in self.rows if _group(row) == _group(dataclasses.asdict(jobs[0]))]

    def put(self, rows: list[dict]) -> None:
        """Replaces a group and writes the file, so that a sitting cut short leaves what it has measured.

        Args:
            rows: all that the group will hold, measured in one sitting, as that of `with_measured`.
        """
        self.rows = [row for row in self.rows if _group(row) != _group(rows[0])] + rows
        write_json(self.path, {"machine": self.machine, "rows": self.rows})


def _group(row: dict) -> list:
    return [row[name] for name in GROUP_FIELDS]
