"""Measures time to quality: the paper's recipe against the modern one, and the modern one with something taken out, added or changed.

    python benchmarks/speedrun.py --out benchmarks/results/speedrun.json [--wiki_files 'wiki/*.txt.xz' ...]
        [--budget_minutes 30] [--seeds 0 1 2] [--cells 'builtin/*/30m/*' ...] [--list] [--again]

A cell is one training, in a process of its own, named corpus/variant/budget/seed. Its steps are set by a short calibration just before, so
that the rate reaches 0 when the budget ends. The clock counts the initialisation (word vectors from the corpus included) and the
training steps; compilation, validation and checkpoints are left out, for all alike. Every recipe is validated on the same examples: the
held-out documents, one half packed as the paper does, the other as blocks of one segment, under the same masks; a hash of them stands in
the results.

Results are merged after every cell, and cells that are there are skipped, so the whole can be taken over several evenings on one machine;
a cell that was killed goes on where its last checkpoint stands (with --again it begins anew). The plot is written beside the results.
"""

import argparse
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from machine import describe
from speedrun_plan import (
    ABLATIONS,
    ARCHITECTURES,
    BASELINES,
    CANDIDATES,
    PACKINGS,
    VARIANTS,
    Cell,
    plan,
    select,
    settings,
    steps_between_validations,
    steps_within,
    variant_config,
    with_length,
)
from speedrun_plot import longest_of_each, plot
from speedrun_results import check_same_machine, merge, read_cells
from speedrun_summary import changes, curve, table, times_to_quality, typical_speed, typical_step_seconds

from electra_keras.backend import choose_backend
from electra_keras.config import Config
from electra_keras.config_loading import load_config, save_config
from electra_keras.data.corpus import documents, open_corpus
from electra_keras.data.prepare import describe_inputs, prepare
from electra_keras.data.prepared import read_manifest
from electra_keras.data.sampling import sample_texts
from electra_keras.data.tokenizer import VOCABULARY_FILE, WordPieceTokenizer
from electra_keras.errors import UserError
from electra_keras.files import locked_folder, sha256_of_json, write_json

WIKI_VOCAB_SIZE = 8_192
# Start of two processes, calibration, compilation and validation, on two cores.
MINUTES_AROUND_A_CELL = 2.0


class Corpus:
    """A corpus with one vocabulary and all packings, prepared when they are first asked for."""

    def __init__(self, name: str, folder: pathlib.Path, config_path: str, wiki_files: Sequence[str]):
        self.name, self.folder, self.config_path = name, folder / name, config_path
        self.source: dict[str, Any] = {}
        if name == "en_wiki":
            self.source = {"corpus.files": list(wiki_files), "tokenizer.vocab_size": WIKI_VOCAB_SIZE}

    @property
    def given(self) -> dict[str, Any]:
        """What counts for every cell of the corpus: its text and its vocabulary."""
        return {**self.source, "tokenizer.vocab_file": os.fspath(self.folder / "vocabulary" / VOCABULARY_FILE)}

    @functools.cached_property
    def prepared(self) -> dict[str, str]:
        """Packing -> folder of prepared data; looked up once, since every look hashes the corpus' files."""
        self._train_vocabulary()
        folders = {name: self.folder / name for name in PACKINGS}
        for name, folder in folders.items():
            prepare(load_config(self.config_path, {**self.given, **PACKINGS[name]}), folder)
        return {name: os.fspath(folder) for name, folder in folders.items()}

    def _train_vocabulary(self) -> None:
        """Trains the vocabulary, unless one is there that was trained on the same text with the same settings."""
        folder, config = self.folder / "vocabulary", load_config(self.config_path, self.source)
        note, inputs = folder / "inputs.json", sha256_of_json(describe_inputs(config, open_corpus(config.corpus)))
        if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == inputs:
            return
        texts = sample_texts(documents(config.corpus), config.corpus.validation_fraction)
        WordPieceTokenizer.train(texts, config.tokenizer).save(folder)
        write_json(note, inputs)

    def training_data(self, packing: str) -> dict[str, str]:
        """Returns what a packing's training split consists of: its name, and a hash of the shards' checksums."""
        shards = read_manifest(pathlib.Path(self.prepared[packing]))["splits"]["train"]["shards"]
        return {"packing": packing, "sha256": hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()}


class Measurement:
    """Trains cells under one work folder.

    Args:
        arguments: of the command line.
        lock: file descriptor that holds the work folder. The trainings inherit it, so that one that outlives this process still holds it.
    """

    def __init__(self, arguments: argparse.Namespace, lock: int):
        self.arguments, self.lock = arguments, lock
        self.work_dir = pathlib.Path(arguments.work_dir)
        data = self.work_dir / "data"
        self.corpora = {name: Corpus(name, data, arguments.config, arguments.wiki_files) for name in corpus_names(arguments)}

    def config(self, cell: Cell) -> Config:
        """Returns a cell's configuration, its length still open."""
        given = {**self.corpora[cell.corpus].given, "training.validation_examples": self.arguments.held_out_examples}
        return variant_config(VARIANTS[cell.variant], self.arguments.config, given)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Returns the row of a cell, trained from the start or from where it was stopped."""
        machine, config, folder = describe(), self.config(cell), self.work_dir / "cells" / cell.name
        data = self.corpora[cell.corpus].training_data(config.packing.style)
        calibration = self._calibration(cell, config, folder, data)
        step_seconds = calibration["step_seconds"]
        num_steps = steps_within(cell.minutes, calibration["initialization_seconds"], step_seconds)
        every = steps_between_validations(num_steps, step_seconds, self.arguments.validate_every_seconds)
        variant = VARIANTS[cell.variant]
        final = with_length(config, variant, num_steps, every, cell.seed)
        found = self._train(cell, final, folder / "run")
        points = curve(found["lines"], calibration["initialization_seconds"])
        return {
            "corpus": cell.corpus,
            "variant": cell.variant,
            "what": variant.what,
            "minutes": cell.minutes,
            "seed": cell.seed,
            "settings": settings(config, variant),
            "training_data": data,
            "calibration": {name: round(seconds, 5) for name, seconds in calibration.items()},
            "num_steps": num_steps,
            "warmup_steps": final.optimizer.warmup_steps,
            "trained_minutes": points[-1]["minutes"],
            "tokens_per_second": round(typical_speed(found["lines"]), 1),
            **{name: found[name] for name in ("num_parameters", "held_out_examples", "held_out_sha256", "by_packing")},
            "curve": points,
            "machine": machine,
            "backend": os.environ["KERAS_BACKEND"],
        }

    def _calibration(self, cell: Cell, config: Config, folder: pathlib.Path, data: Mapping[str, str]) -> dict[str, float]:
        """Returns the seconds of initialisation and of a step; those of a stopped training, whose length they have decided.

        A training that was stopped under other settings or on other data is begun anew.
        """
        variant = VARIANTS[cell.variant]
        note, wanted = folder / "calibration.json", {"settings": settings(config, variant), "training_data": data}
        if note.is_file() and not self.arguments.again:
            earlier = json.loads(note.read_text(encoding="utf-8"))
            if {name: earlier.get(name) for name in wanted} == wanted:
                return earlier["seconds"]
        shutil.rmtree(folder, ignore_errors=True)
        steps = self.arguments.calibration_steps
        found = self._train(cell, with_length(config, variant, steps, max(1, steps // 6), cell.seed), folder / "calibration")
        shutil.rmtree(folder / "calibration")
        seconds = {"initialization_seconds": found["initialization_seconds"], "step_seconds": typical_step_seconds(found["lines"])}
        write_json(note, {**wanted, "seconds": seconds})
        return seconds

    def _train(self, cell: Cell, config: Config, run_dir: pathlib.Path) -> dict[str, Any]:
        paths = {name: run_dir.with_name(f"{run_dir.name}-{name}") for name in ("config.yaml", "job.json", "result.json")}
        save_config(config, paths["config.yaml"])
        job = {
            "config": os.fspath(paths["config.yaml"]),
            "run_dir": os.fspath(run_dir),
            "data": self.corpora[cell.corpus].prepared,
            **VARIANTS[cell.variant].beyond_configuration(),
            "held_out_examples": self.arguments.held_out_examples,
            "result": os.fspath(paths["result.json"]),
        }
        write_json(paths["job.json"], job)
        command = [sys.executable, pathlib.Path(__file__).with_name("speedrun_cells.py"), paths["job.json"]]
        if status := subprocess.run(command, pass_fds=[self.lock]).returncode:
            raise UserError(f"{cell.name}: its training ended with status {status}. The same command goes on from its last checkpoint.")
        return json.loads(paths["result.json"].read_text(encoding="utf-8"))


def corpus_names(arguments: argparse.Namespace) -> list[str]:
    """Returns the corpora that the command line asks for: those with text."""
    names = ["builtin", *(["en_wiki"] if arguments.wiki_files else [])]
    unknown = [name for name in arguments.corpora or names if name not in names]
    if unknown:
        raise SystemExit(f"There is no text for {', '.join(unknown)}: --wiki_files gives en_wiki's.")
    return arguments.corpora or names


def write_results(path: pathlib.Path, cells: Mapping[str, dict[str, Any]]) -> str:
    """Writes rows and summary, draws the curves, and returns the summary as a table."""
    rows = list(cells.values())
    times = [line for reference in ("paper", *BASELINES) for line in times_to_quality(rows, reference)]
    kinds = {"ablations": ABLATIONS, "candidates": CANDIDATES, "architectures": ARCHITECTURES}
    changed = {kind: changes(rows, [*variants]) for kind, variants in kinds.items()}
    write_json(path, {"summary": {"times_to_quality": times, **changed}, "cells": cells})
    if longest_of_each(rows):
        plot(rows, path.with_suffix(".svg"), {name: variant.what for name, variant in VARIANTS.items()})
    return table(times, [row for rows_of_kind in changed.values() for row in rows_of_kind])


def show(cells: Sequence[Cell], found: Mapping[str, Any]) -> str:
    """Returns the plan with the time that is left."""
    lines = [f"{'done' if cell.name in found else 'to do':>6}  {cell.name:<44} {VARIANTS[cell.variant].what}" for cell in cells]
    left = [cell for cell in cells if cell.name not in found]
    minutes = sum(cell.minutes + MINUTES_AROUND_A_CELL for cell in left)
    return "\n".join([*lines, f"{len(left)} of {len(cells)} cells to do, about {minutes / 60:.1f} hours."])


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write or to add to")
    parser.add_argument("--config", default="configs/pretrain/tiny.yaml", help="the modern recipe, with the shape that both share")
    parser.add_argument("--work_dir", default="runs/speedrun", help="prepared data and trainings")
    parser.add_argument("--wiki_files", nargs="+", default=[], help="paths and globs of en_wiki's text")
    parser.add_argument("--corpora", nargs="+", choices=("builtin", "en_wiki"), help="all that have text by default")
    parser.add_argument("--budget_minutes", type=float, default=30.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", default=[], help="shell patterns of names, such as 'builtin/paper/*'; all by default")
    parser.add_argument("--list", action="store_true", help="show the plan and the time it takes")
    parser.add_argument("--again", action="store_true", help="measure cells anew that are there already")
    parser.add_argument("--validate_every_seconds", type=float, default=20.0, help="of training")
    parser.add_argument("--held_out_examples", type=int, default=2_048, help="at most; half of them in either packing")
    parser.add_argument("--calibration_steps", type=int, default=90)
    arguments = parser.parse_args(argv)
    least = {"budget_minutes": 0.001, "validate_every_seconds": 0.001, "held_out_examples": 2, "calibration_steps": 6}
    for name, value in least.items():
        if not getattr(arguments, name) >= value:
            parser.error(f"--{name} is {getattr(arguments, name):g}; it must be at least {value:g}.")
    return arguments


def main() -> None:
    """Measures the cells that are missing, and writes the results after every one."""
    arguments = parse_arguments()
    try:
        run(arguments)
    except UserError as error:
        raise SystemExit(f"speedrun.py: {error}") from None


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for.

    Raises:
        UserError: something that was given cannot be used, results are of another machine, or a training failed.
    """
    out = pathlib.Path(arguments.out)
    found = read_cells(out)
    cells = select(plan(corpus_names(arguments), arguments.seeds, arguments.budget_minutes), arguments.cells)
    if arguments.list:
        print(show(cells, found))
        return
    backend = choose_backend(None, load_config(arguments.config).backend)
    pathlib.Path(arguments.work_dir).mkdir(parents=True, exist_ok=True)
    refusal = f"Another sitting, or a training that it has left behind, is at work in {arguments.work_dir}. Wait for it, or end it."
    with locked_folder(arguments.work_dir, refusal) as lock:
        measure_missing(Measurement(arguments, lock), cells, out, backend)
    print(write_results(out, read_cells(out)))


def measure_missing(measurement: Measurement, cells: Sequence[Cell], out: pathlib.Path, backend: str) -> None:
    """Measures the cells that are not in the results, or all where that is asked for, and writes the results after every one."""
    arguments, found = measurement.arguments, read_cells(out)
    for cell in cells:
        if cell.name in found and not arguments.again:
            changed = found[cell.name]["settings"] != settings(measurement.config(cell), VARIANTS[cell.variant])
            print(f"{cell.name}: there already{', but measured with other settings; see --again' if changed else ''}", flush=True)
            continue
        check_same_machine(out, found, describe(), backend)
        print(f"{cell.name}: {VARIANTS[cell.variant].what}", flush=True)
        row = measurement.measure(cell)
        found = merge(found, cell.name, row)
        write_results(out, found)
        print(f"{cell.name}: trained for {row['trained_minutes']:.2f} of {cell.minutes:g} minutes", flush=True)


if __name__ == "__main__":
    main()
