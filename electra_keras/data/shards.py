"""Shards: examples of fixed length in .npy files, written as a stream and read memory-mapped."""

import os
import pathlib
import re
from typing import Any

import numpy as np

from electra_keras.data.packing import Examples, Layout
from electra_keras.errors import ShardError
from electra_keras.files import sha256_of

SHARD_BYTES = 1 << 28
# The files that ShardWriter writes for the splits of prepared data.
SHARD_FILE = re.compile(r"(train|validation)-\d{5,}-(tokens|lengths)\.npy")


class ShardWriter:
    """Writes one split into a folder, as many shards as its size asks for.

    Used as a context manager; not atomic by itself, since `prepare` renames the whole folder.
    """

    def __init__(self, folder: pathlib.Path, split: str, layout: Layout):
        self._folder, self._split = folder, split
        self._examples_per_shard = max(1, SHARD_BYTES // (layout.sequence_length * np.dtype(layout.dtype).itemsize))
        self._tokens = self._lengths = None
        self._descriptions: list[dict[str, Any]] = []
        self.num_examples = self.num_tokens = 0

    def write(self, examples: Examples) -> None:
        """Appends examples."""
        start = 0
        while start < len(examples.lengths):
            if self._tokens is None:
                name = f"{self._split}-{len(self._descriptions):05d}"
                self._tokens = _GrowingArray(self._folder / f"{name}-tokens.npy", examples.token_ids)
                self._lengths = _GrowingArray(self._folder / f"{name}-lengths.npy", examples.lengths)
            end = start + self._examples_per_shard - self._tokens.rows
            self._tokens.append(examples.token_ids[start:end])
            self._lengths.append(examples.lengths[start:end])
            if self._tokens.rows == self._examples_per_shard:
                self._finish_shard()
            start = end
        self.num_examples += len(examples.lengths)
        self.num_tokens += int(examples.lengths[:, 1].sum())

    def finish(self) -> list[dict[str, Any]]:
        """Closes the last shard and returns every shard's examples, file names, sizes and hashes, for the manifest."""
        if self._tokens is not None:
            self._finish_shard()
        return self._descriptions

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        for array in (self._tokens, self._lengths):
            if array is not None:
                array.close()

    def _finish_shard(self) -> None:
        description = {"num_examples": self._tokens.rows}
        for kind, array in (("tokens", self._tokens), ("lengths", self._lengths)):
            array.close()
            description[kind] = {"file": array.path.name, "bytes": array.path.stat().st_size, "sha256": sha256_of(array.path)}
        self._descriptions.append(description)
        self._tokens = self._lengths = None


class Split:
    """The examples of "train" or "validation", memory-mapped.

    Attributes:
        num_examples: examples, numbered from 0 in the corpus' order.
        num_tokens: tokens in them, [CLS] and [SEP] included, padding not.
    """

    def __init__(self, folder: pathlib.Path, description: dict[str, Any], sequence_length: int):
        self._sequence_length = sequence_length
        self.num_examples: int = description["num_examples"]
        self.num_tokens: int = description["num_tokens"]
        shards = description["shards"]
        self._ends = np.cumsum([shard["num_examples"] for shard in shards], dtype=np.int64)
        self._token_ids = [np.load(folder / shard["tokens"]["file"], mmap_mode="r") for shard in shards]
        self._lengths = [np.load(folder / shard["lengths"]["file"], mmap_mode="r") for shard in shards]

    def token_ids(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, sequence_length), padded with the pad id.

        Args:
            indices: int (n,), examples in [0, num_examples).

        Raises:
            IndexError: an index lies outside.
        """
        return self._gather(self._token_ids, indices, self._sequence_length)

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """Returns int32 (n, 2): tokens in segment A with [CLS] and its [SEP], and tokens in all.

        Args:
            indices: int (n,), examples in [0, num_examples).

        Raises:
            IndexError: an index lies outside.
        """
        return self._gather(self._lengths, indices, 2)

    def _gather(self, shards: list[np.ndarray], indices: np.ndarray, width: int) -> np.ndarray:
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_examples:
            raise IndexError(f"There are {self.num_examples} examples, numbered from 0; asked for {indices.min()} to {indices.max()}.")
        rows = np.empty((len(indices), width), np.int32)
        owners = np.searchsorted(self._ends, indices, side="right")
        for owner in np.unique(owners):
            mask = owners == owner
            first = self._ends[owner] - len(shards[owner])
            rows[mask] = shards[owner][indices[mask] - first]
        return rows


def check_shard_file(folder: pathlib.Path, description: dict[str, Any], content: bool) -> None:
    """Raises ShardError when a shard's file is missing, or its size or its SHA-256 is not the manifest's.

    Args:
        folder: that holds it.
        description: file, bytes and sha256.
        content: read it all for the hash.
    """
    path = folder / description["file"]
    remedy = "Delete the folder and prepare the data again."
    if not path.is_file():
        raise ShardError(f"{path} is missing. {remedy}")
    size = os.path.getsize(path)
    if size != description["bytes"]:
        raise ShardError(f"{path} has {size:,} bytes where its manifest says {description['bytes']:,}: it was cut or replaced. {remedy}")
    if content and sha256_of(path) != description["sha256"]:
        raise ShardError(f"{path} is damaged: its SHA-256 is not its manifest's. {remedy}")


class _GrowingArray:
    """A .npy file to which rows are appended; its header is written again in the end, NumPy leaves room for the count."""

    def __init__(self, path: pathlib.Path, like: np.ndarray):
        self.path, self.rows = path, 0
        self._like = like[:0]
        self._file = open(path, "wb")  # noqa: SIM115 - stays open until close()
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write_header(self) -> None:
        shape = (self.rows, *self._like.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(self._like.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
