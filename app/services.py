"""What the pages ask of electra_keras, with what was loaded or computed kept between reruns.

The app's only importer of electra_keras. Everything handed to the pages is plain data, so that they can be tested
with any other source of it. Keras is loaded when the first text is scored, not when the page opens.
"""

import dataclasses
import os
import pathlib
from typing import Any

import streamlit as st

from electra_keras.artifacts import CONFIG, RUN, RunDirectory
from electra_keras.detector import RUNS_FOLDER, Detector, TokenScore, open_run
from electra_keras.errors import RunError, UserError
from electra_keras.segments import Segment, join_segments

__all__ = ["RUNS_FOLDER", "Run", "Segment", "TokenScore", "UserError", "join_segments", "list_runs", "read_metrics", "score"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory as the model picker shows it.

    Attributes:
        name: the folder's name.
        path: the folder.
        description: objective, size and state in one line.
        num_steps: the optimizer updates that the configuration asks for.
        is_finished: whether training has ended.
        is_imported: whether its weights come from another library, so that it has no training to show.
        can_detect: whether its objective trained a discriminator.
        version: changes when the run's files do, so that an older model is not served from the cache.
    """

    name: str
    path: str
    description: str
    num_steps: int
    is_finished: bool
    is_imported: bool
    can_detect: bool
    version: int


def list_runs(folder: str | os.PathLike = RUNS_FOLDER) -> tuple[list[Run], dict[str, str]]:
    """Lists the runs in a folder: those that can detect first, then finished before unfinished, then by age, newest first.

    Args:
        folder: holds run directories, and perhaps other folders; it may be missing.

    Returns:
        The runs that can be opened, and for every run that cannot its name with the reason. Folders that hold no run are left out.
    """
    folder = pathlib.Path(folder)
    runs, unusable = [], {}
    candidates = sorted(entry for entry in folder.iterdir() if _is_candidate(entry)) if folder.is_dir() else []
    for path in candidates:
        try:
            runs.append(_describe(str(path), _version(path)))
        except UserError as error:
            unusable[path.name] = str(error)
    return sorted(runs, key=lambda run: (not run.can_detect, not run.is_finished, -run.version, run.name)), unusable


def score(run: Run, text: str) -> list[TokenScore]:
    """Returns every token of a text with its probability of having been replaced.

    Raises:
        UserError: the run has no usable weights, or was not trained to detect.
    """
    return _score(run.path, run.version, text)


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Returns the lines of a run's metrics.jsonl, oldest first.

    Raises:
        UserError: the run directory is gone or damaged.
    """
    return RunDirectory.open(run.path).metrics()


def _is_candidate(path: pathlib.Path) -> bool:
    if path.name.startswith(".") or not path.is_dir():
        return False
    try:
        # Either file: a run that has lost the other is a damaged one, and must be named.
        return any((path / name).is_file() for name in (CONFIG, RUN))
    except OSError:
        return True  # What cannot be read may be a run; opening it says why it cannot be.


@st.cache_data(max_entries=1000, show_spinner=False)
def _describe(path: str, version: int) -> Run:
    directory = RunDirectory.open(path)
    config = directory.config
    state = "finished" if directory.is_finished else "not finished: the newest checkpoint is used"
    shape = f"{config.model.num_layers} layers of {config.model.hidden_dim}"
    origin = directory.description
    is_imported = origin.get("kind") == "imported"
    training = f"imported from {origin['source']}" if is_imported else f"{config.training.num_steps:,} steps · {state}"
    return Run(
        name=pathlib.Path(path).name,
        path=path,
        description=f"{directory.objective} · {shape} · {training}",
        num_steps=config.training.num_steps,
        is_finished=directory.is_finished,
        is_imported=is_imported,
        can_detect=_can_detect(path),
        version=version,
    )


def _can_detect(path: str) -> bool:
    try:
        open_run(path)
    except RunError:
        return False  # Scoring with it says why.
    return True


def _version(path: pathlib.Path) -> int:
    # A file that is written under a temporary name and renamed touches its folder; appending a line of metrics does not,
    # so a run that is still training is read again at every checkpoint and not at every log line.
    try:
        folders = [path, *(entry for entry in path.iterdir() if entry.is_dir())]
        return max(folder.stat().st_mtime_ns for folder in folders)
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error


@st.cache_data(max_entries=16, show_spinner="Scoring every token…")
def _score(path: str, version: int, text: str) -> list[TokenScore]:
    return list(_load_detector(path, version).score(text).tokens)


@st.cache_resource(max_entries=2, show_spinner="Loading the model…")
def _load_detector(path: str, version: int) -> Detector:
    del version  # Part of the cache's key only.
    # Streamlit runs every visitor's script in a thread of its own; threads may share a detector.
    return Detector.load(path)
