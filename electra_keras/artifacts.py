"""The run directory: its file names, its checkpoints, and what makes them whole.

    config.yaml             the resolved configuration, every field
    run.json                format version, kind, hashes of vocabulary, data and weights, whether the run is finished
    vocab.txt, tokenizer_config.json
    metrics.jsonl           one JSON object a line
    checkpoints/step_N/     weights.safetensors, state.safetensors (optimizer, seeds, metrics), checkpoint.json
    weights.safetensors     the trained weights, once the run is finished
    data/                   the prepared corpus, unless it was prepared elsewhere

Weights are safetensors under structural names, and nothing here is ever executed on loading.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from electra_keras.arrays import Arrays, load_arrays, save_arrays
from electra_keras.config import Config
from electra_keras.config_loading import load_config, save_config
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import RunError
from electra_keras.files import atomic_open, locked_folder, sha256_of, sync_folder, write_json

FORMAT_VERSION = 1
CONFIG, RUN, METRICS, WEIGHTS, CHECKPOINTS, DATA = "config.yaml", "run.json", "metrics.jsonl", "weights.safetensors", "checkpoints", "data"
STATE, CHECKPOINT = "state.safetensors", "checkpoint.json"


class Checkpoint:
    """One step's weights and training state, read after their hashes have been checked."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    @property
    def step(self) -> int:
        """The number of finished optimizer updates."""
        return int(self.folder.name.removeprefix("step_"))

    def verify(self) -> None:
        """Raises RunError when a file is missing or differs from the hash written with it."""
        try:
            hashes = json.loads((self.folder / CHECKPOINT).read_text(encoding="utf-8"))["sha256"]
            for name, expected in hashes.items():
                if sha256_of(self.folder / name) != expected:
                    raise RunError(f"The checkpoint file {self.folder / name} is damaged: its content is not what was written.")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"The checkpoint {self.folder} is incomplete: {error}") from error

    def weights(self) -> Arrays:
        """Returns the models' weights by structural name."""
        return load_arrays(self.folder / WEIGHTS)

    def state(self) -> Arrays:
        """Returns optimizer, seed and metric variables by name."""
        return load_arrays(self.folder / STATE)


class RunDirectory:
    """A pre-training run on disk."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike) -> "RunDirectory":
        """Opens an existing run.

        Raises:
            RunError: there is no run, it has another format, or a file of it is damaged.
        """
        run = cls(path)
        if not run.exists():
            raise RunError(
                f"{run.path} holds no run: {CONFIG} or {RUN} is missing. "
                f"Train one with `electra-keras pretrain --config configs/pretrain/tiny.yaml --run_dir {run.path}`."
            )
        version = run.description.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(f"{run.path / RUN} has format version {version}; this version of electra_keras reads {FORMAT_VERSION}.")
        return run

    @classmethod
    def create(
        cls, path: str | os.PathLike, config: Config, tokenizer: WordPieceTokenizer, description: Mapping[str, Any]
    ) -> "RunDirectory":
        """Writes a new run's configuration, vocabulary and description; `run.json` last, so that an interrupted start leaves no run."""
        run = cls(path)
        save_config(config, run.path / CONFIG)
        tokenizer.save(run.path)
        write_json(run.path / RUN, {"format_version": FORMAT_VERSION, **description, "tokenizer": tokenizer.fingerprint, "finished": False})
        return run

    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / CONFIG).is_file() and (self.path / RUN).is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder while the block lasts.

        A missing folder is made, and goes again if the block leaves nothing in it.

        Raises:
            UserError: another process trains here.
            RunError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the run directory {self.path}: {error.strerror}. Choose another folder.") from error
        with locked_folder(self.path, f"Another process is training in {self.path}. Wait for it, or choose another folder."):
            try:
                yield
            finally:
                # By the holder of the lock alone: the folder is empty too while another process prepares its corpus elsewhere.
                if not any(self.path.iterdir()):
                    self.path.rmdir()

    @property
    def description(self) -> dict[str, Any]:
        """The content of run.json."""
        try:
            description = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            if not isinstance(description, dict):
                raise ValueError("it holds no JSON object")
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / RUN} cannot be read: {error}. Restore it, or start a new run in another folder.") from error
        return description

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return load_config(self.path / CONFIG)

    @property
    def objective(self) -> str:
        """The name of the objective."""
        return self.config.objective.name

    @property
    def is_finished(self) -> bool:
        """Whether training has reached its last step."""
        return bool(self.description.get("finished"))

    @property
    def data_path(self) -> pathlib.Path:
        """Where the run's prepared corpus is: where it was prepared, or else in the run's own folder."""
        elsewhere = self.description.get("data_dir") if self.exists() else None
        return pathlib.Path(elsewhere) if elsewhere and os.path.isdir(elsewhere) else self.path / DATA

    def tokenizer(self) -> WordPieceTokenizer:
        """Loads the vocabulary the run was trained with.

        Raises:
            RunError: it is not that vocabulary.
        """
        tokenizer = WordPieceTokenizer.load(self.path)
        if tokenizer.fingerprint != self.description.get("tokenizer"):
            raise RunError(
                f"The vocabulary in {self.path} is not the one the run was trained with. Restore vocab.txt and tokenizer_config.json."
            )
        return tokenizer

    # Checkpoints

    def checkpoints(self) -> list[Checkpoint]:
        """Returns the checkpoints on disk, oldest first, unchecked."""
        folders = [folder for folder in (self.path / CHECKPOINTS).glob("step_*") if folder.name.removeprefix("step_").isdigit()]
        return sorted((Checkpoint(folder) for folder in folders), key=lambda checkpoint: checkpoint.step)

    def newest_checkpoint(self, report: Callable[[str], None] = print) -> Checkpoint | None:
        """Returns the newest whole checkpoint; a damaged one is passed over, and said to be.

        Raises:
            RunError: there are checkpoints and none of them is whole.
        """
        checkpoints = self.checkpoints()
        damaged = []
        for checkpoint in reversed(checkpoints):
            try:
                checkpoint.verify()
            except RunError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                report(f"{message} Falling back to step {checkpoint.step}.")
            return checkpoint
        if damaged:
            raise RunError(f"No checkpoint in {self.path / CHECKPOINTS} is whole. {' '.join(damaged)} Start again in another folder.")
        return None

    def save_checkpoint(self, step: int, weights: Arrays, state: Arrays, keep: int) -> Checkpoint:
        """Writes a checkpoint under a temporary name, renames it into place, then drops the oldest ones, and any of later steps.

        Checkpoints of later steps are there where all of them are damaged and the run went on from an earlier one.

        Args:
            step: finished optimizer updates.
            weights: models' weights by structural name.
            state: everything else that a resumed run needs.
            keep: how many newest checkpoints stay.
        """
        folder = self.path / CHECKPOINTS / f"step_{step:08d}"
        temporary = self.path / CHECKPOINTS / f".step_{step:08d}"
        # Left over where an earlier process was killed while it wrote this one.
        shutil.rmtree(temporary, ignore_errors=True)
        save_arrays(temporary / WEIGHTS, weights)
        save_arrays(temporary / STATE, state)
        write_json(temporary / CHECKPOINT, {"step": step, "sha256": {name: sha256_of(temporary / name) for name in (WEIGHTS, STATE)}})
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        # The older ones go only once this one would survive a power cut.
        sync_folder(folder.parent)
        kept = [checkpoint.folder for checkpoint in self.checkpoints() if checkpoint.step <= step][-keep:]
        for checkpoint in self.checkpoints():
            if checkpoint.folder not in kept:
                shutil.rmtree(checkpoint.folder)
        return Checkpoint(folder)

    def finish(self, weights: Arrays) -> None:
        """Writes the trained weights and marks the run as finished."""
        save_arrays(self.path / WEIGHTS, weights)
        write_json(self.path / RUN, {**self.description, "finished": True, "weights_sha256": sha256_of(self.path / WEIGHTS)})

    def reopen(self, config: Config) -> None:
        """Records the configuration of a resumed run and that it is no longer finished."""
        # In this order: killed in between, the run is taken up again, and not taken for one that has made the new number of steps.
        write_json(self.path / RUN, {**self.description, "finished": False})
        save_config(config, self.path / CONFIG)

    def weights_are_whole(self) -> bool:
        """Whether the trained weights are there as they were written."""
        path = self.path / WEIGHTS
        return path.is_file() and sha256_of(path) == self.description.get("weights_sha256")

    def final_weights(self, report: Callable[[str], None] = print) -> Arrays:
        """Returns the trained weights, or the newest checkpoint's while the run is not finished.

        Args:
            report: is told when a damaged checkpoint is passed over.

        Raises:
            RunError: there are none, or they are damaged.
        """
        if self.is_finished:
            path = self.path / WEIGHTS
            if not self.weights_are_whole():
                remedy = (
                    "Resume the run to write it again (`electra-keras pretrain ... --resume true`)."
                    if self.checkpoints()
                    else "Restore it."
                )
                raise RunError(f"{path} is missing or damaged. {remedy}")
            return load_arrays(path)
        checkpoint = self.newest_checkpoint(report)
        if checkpoint is None:
            raise RunError(f"{self.path} has no checkpoint yet. Wait for the first one, or resume the run.")
        return checkpoint.weights()

    # Metrics

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; a last line that a kill cut short is left out."""
        return [line for line, _ in self._metric_lines()]

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl and has it on disk when it returns."""
        try:
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"Cannot write {self.path / METRICS}: {error.strerror}. Free some space, then resume the run.") from error

    def cut_metrics(self, step: int) -> None:
        """Drops all lines after a step, so that a run resumed there writes each of them once."""
        kept = [text for line, text in self._metric_lines() if line["step"] <= step]
        with atomic_open(self.path / METRICS) as file:
            file.writelines(text + "\n" for text in kept)

    def _metric_lines(self) -> Iterator[tuple[dict[str, Any], str]]:
        path = self.path / METRICS
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").split("\n")
        # Whatever follows the last line break was being written when the process died.
        for number, text in enumerate(lines[:-1], start=1):
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or "step" not in line:
                    raise ValueError("no object with a step")
            except ValueError as error:
                raise RunError(f"{path}, line {number} is no line of metrics: {error}. Remove the line.") from error
            yield line, text
