"""Replaced-token detection for any text: tokens, where they stand, and how likely each was put there by a generator.

Loads no training code. A text longer than the model's sequences is scored in overlapping windows and never cut. Windows of
many texts go through the model together, sorted by length.
"""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from electra_keras.arrays import Arrays
from electra_keras.artifacts import RunDirectory
from electra_keras.backend import choose_backend
from electra_keras.config import Config, ObjectiveConfig
from electra_keras.data.tokenizer import Encoding, WordPieceTokenizer
from electra_keras.data.windows import PaddedBatch, batches_of_few_shapes, split_windows, tight_batches
from electra_keras.errors import RunError, UserError

RUNS_FOLDER = "runs"
BATCH_TOKENS = 2_048
"""Rows enough for fast products, and few enough that a layer's intermediate results stay in a processor's last cache."""


# A data class takes five times as long to build, which a file's hundreds of thousands of tokens feel.
class TokenScore(NamedTuple):
    """One token's probability of having been replaced, in [0, 1]; start and end are code points of the text."""

    token: str
    start: int
    end: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Detection:
    """A text and its scored tokens, from left to right; a text without tokens has none."""

    text: str
    tokens: tuple[TokenScore, ...]


class Detector:
    """Scores the tokens of texts with a trained discriminator; threads may share one.

    Args:
        model: discriminator as `build_discriminator` returns it.
        tokenizer: the WordPieceTokenizer of its vocabulary.
        sequence_length: tokens the model was trained on at once, special tokens included; >= 3.
    """

    def __init__(self, model: Any, tokenizer: Any, sequence_length: int):
        self.model = model
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self._one_at_a_time = threading.Lock()

        from electra_keras.modeling.kernels.forward import forward_function, wants_few_shapes

        self._logits = forward_function(model)
        self._batches = batches_of_few_shapes if wants_few_shapes() else tight_batches

    @classmethod
    def load(cls, run_dir_or_name: str | os.PathLike) -> "Detector":
        """Loads the discriminator of a run, or one in Hugging Face's or KerasHub's layout.

        Where keras is not loaded yet, KERAS_BACKEND chooses its backend, or jax.

        Args:
            run_dir_or_name: a run directory, or its name under runs/; the folder of a pretrained discriminator; or its name on the
                Hugging Face hub, such as "google/electra-small-discriminator".

        Raises:
            RunError: there is no such run, it is damaged, or its objective trains no discriminator.
            UserError: a pretrained model cannot be fetched or used.
            BackendError: the backend is not installed.
        """
        config, tokenizer, arrays = _read(run_dir_or_name)
        choose_backend(None, None)

        from electra_keras.modeling.models import build_discriminator
        from electra_keras.modeling.weights import load_named_weights

        model = build_discriminator(config.model, tokenizer.vocab_size, dtype="float32")
        load_named_weights({"discriminator": model}, arrays, ignore_extra=True)
        return cls(model, tokenizer, config.packing.sequence_length)

    def score(self, text: str) -> Detection:
        """Scores one text of any length; see `score_batch`."""
        return self.score_batch([text])[0]

    def score_batch(self, texts: Sequence[str], batch_tokens: int = BATCH_TOKENS) -> list[Detection]:
        """Scores texts of any length.

        A token that stands in several windows is scored in the one that shows the model most of its surroundings.

        Args:
            texts: the texts; one that is empty, or holds only what the tokenizer drops, gets no tokens.
            batch_tokens: tokens that pass through the model together, padding included, at most; a single window may have more. >= 1.

        Returns:
            One Detection a text, in their order. Scores do not depend on the other texts, but for rounding.
        """
        encodings = self.tokenizer.encode_batch(list(texts))
        probabilities = [np.zeros(len(encoding.token_ids), dtype=np.float32) for encoding in encodings]
        room = self.sequence_length - 2
        windows = [
            (number, window)
            for number, encoding in enumerate(encodings)
            for window in split_windows(len(encoding.token_ids), room, room // 2)
        ]
        lengths = [window.stop - window.start + 2 for _, window in windows]
        for batch in self._batches(lengths, self.sequence_length, batch_tokens):
            members = [windows[index] for index in batch.members]
            rows = [encodings[number].token_ids[window.start : window.stop] for number, window in members]
            for (number, window), scores in zip(members, self._forward(rows, batch), strict=True):
                # Behind [CLS], the window's first token stands at position 1.
                scored = slice(window.score_start - window.start + 1, window.score_stop - window.start + 1)
                probabilities[number][window.score_start : window.score_stop] = scores[scored]
        return [
            Detection(text, _token_scores(encoding, scores.tolist()))
            for text, encoding, scores in zip(texts, encodings, probabilities, strict=True)
        ]

    def _forward(self, rows: Sequence[Sequence[int]], batch: PaddedBatch) -> np.ndarray:
        """Returns the probabilities of rows of token ids, float32 (rows, length), [CLS] at position 0."""
        token_ids = np.full((batch.num_rows, batch.length), self.tokenizer.pad_id, dtype=np.int32)
        # Rows that only fill the batch up repeat the first one: a row of padding alone has nothing to attend to.
        lengths = np.full((batch.num_rows, 1), len(rows[0]) + 2)
        for index, row in enumerate(rows):
            token_ids[index, : len(row) + 2] = [self.tokenizer.cls_id, *row, self.tokenizer.sep_id]
            lengths[index] = len(row) + 2
        token_ids[len(rows) :] = token_ids[0]
        padding_mask = (np.arange(batch.length) < lengths).astype(np.int32)
        inputs = {"token_ids": token_ids, "segment_ids": np.zeros_like(token_ids), "padding_mask": padding_mask}
        # Two threads must not compile a shape at the same time.
        with self._one_at_a_time:
            logits = self._logits(inputs)[: len(rows)]
        return expit(logits)


def is_pretrained_elsewhere(name: str | os.PathLike) -> bool:
    """Whether a name means no run but a model in another library's layout, in a folder or on the Hugging Face hub."""
    from electra_keras.interop.hub import is_hub_id

    path = pathlib.Path(name)
    if path.is_dir():
        return not RunDirectory(path).exists() and any((path / place / "config.json").is_file() for place in (".", "discriminator"))
    return is_hub_id(name) and path.parts[0] != RUNS_FOLDER


def _read(name: str | os.PathLike) -> tuple[Config, WordPieceTokenizer, Arrays]:
    if not is_pretrained_elsewhere(name):
        run = open_run(name)
        return run.config, run.tokenizer(), run.final_weights()
    from electra_keras.interop.importing import read_pretrained

    pretrained = read_pretrained(name, only="discriminator")
    _check_detects(name, pretrained.config.objective, pretrained.missing)
    return pretrained.config, pretrained.tokenizer, pretrained.weights


def run_folder(run_dir_or_name: str | os.PathLike) -> pathlib.Path:
    """Returns the folder that a user means by a path or a name; it need not hold a run.

    Args:
        run_dir_or_name: a folder, or its name under runs/; a folder of that name in the current one wins.

    Raises:
        RunError: there is no such folder.
    """
    candidates = [pathlib.Path(run_dir_or_name), pathlib.Path(RUNS_FOLDER, run_dir_or_name)]
    path = next((path for path in candidates if path.is_dir()), None)
    if path is None:
        raise RunError(
            f"There is no run directory {candidates[0]}, nor {candidates[1]}. Give a run's folder, or its name under {RUNS_FOLDER}/."
        )
    return path


def open_run(run_dir_or_name: str | os.PathLike) -> RunDirectory:
    """Opens a run that the detector can use, without importing keras.

    Args:
        run_dir_or_name: a run directory, or its name under runs/.

    Raises:
        RunError: there is no such run, or it has no discriminator.
    """
    path = run_folder(run_dir_or_name)
    run = RunDirectory.open(path)
    _check_detects(path, run.config.objective, run.description.get("missing", ()))
    return run


def _check_detects(name: str | os.PathLike, objective: ObjectiveConfig, missing: Sequence[str]) -> None:
    if not objective.detects:
        raise RunError(
            f"{name} was trained with the objective {objective.name}, which has no discriminator to detect with. "
            "Choose a run of the objective electra."
        )
    if "detection head" in missing:
        raise RunError(f"{name} was imported without a detection head, so it cannot detect. Import a whole discriminator.")


def newest_run(folder: str | os.PathLike = RUNS_FOLDER) -> pathlib.Path:
    """Returns the finished run with a discriminator that changed last in a folder of runs; damaged ones are passed over.

    Raises:
        RunError: there is none; says how to make one.
    """
    usable = [path for path in pathlib.Path(folder).glob("*") if _is_finished_detector(path)]
    if not usable:
        raise RunError(f"There is no finished run in {folder}/ yet. Train one with `make demo`, or name a run's folder.")
    return max(usable, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _is_finished_detector(path: pathlib.Path) -> bool:
    try:
        return path.is_dir() and open_run(path).is_finished
    except UserError:
        return False


def _token_scores(encoding: Encoding, probabilities: Sequence[float]) -> tuple[TokenScore, ...]:
    parts = zip(encoding.tokens, encoding.offsets, probabilities, strict=True)
    return tuple(TokenScore(token, start, end, probability) for token, (start, end), probability in parts)
