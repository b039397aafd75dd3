"""A folder of prepared data: tokenizer, shards, and the manifest that vouches for them."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from electra_keras.data.shards import Split, check_shard_file
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import ShardError

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1
SPLITS = ("train", "validation")
EXAMPLES_PER_COUNT = 8_192


class PreparedData:
    """Prepared data, opened; make it with `prepare`, or with `PreparedData.open`."""

    def __init__(self, folder: pathlib.Path, manifest: dict[str, Any], tokenizer: WordPieceTokenizer):
        self.folder = folder
        self.manifest = manifest
        self.tokenizer = tokenizer
        self._splits = {name: Split(folder, manifest["splits"][name], manifest["sequence_length"]) for name in SPLITS}

    @classmethod
    def open(cls, folder: str | os.PathLike, verify: bool = True) -> "PreparedData":
        """Opens a folder that `prepare` has finished.

        Args:
            folder: it.
            verify: read every shard and compare its SHA-256 (about a second a gigabyte); sizes are always compared.

        Raises:
            ShardError: the folder holds no prepared data, a file of it is missing, cut or damaged, or its vocabulary is not
                the one that the shards were made with.
            TokenizerError: its vocabulary cannot be read.
        """
        folder = pathlib.Path(folder)
        manifest = read_manifest(folder)
        tokenizer = WordPieceTokenizer.load(folder)
        if tokenizer.fingerprint != manifest["tokenizer_fingerprint"]:
            raise ShardError(
                f"The shards in {folder} were made with another tokenizer than the one beside them (fingerprint "
                f"{manifest['tokenizer_fingerprint'][:12]}, not {tokenizer.fingerprint[:12]}). Prepare the data again."
            )
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                check_shard_file(folder, shard["tokens"], content=verify)
                check_shard_file(folder, shard["lengths"], content=verify)
        return cls(folder, manifest, tokenizer)

    @property
    def sequence_length(self) -> int:
        """Tokens an example, special tokens and padding included."""
        return self.manifest["sequence_length"]

    def split(self, name: str) -> Split:
        """Returns the split "train" or "validation"."""
        return self._splits[name]

    def unigram_counts(self) -> np.ndarray:
        """Counts the training split's tokens, without [CLS], [SEP] and [PAD], which are nowhere predicted.

        Returns:
            int64 (vocab_size,).
        """
        split = self.split("train")
        counts = np.zeros(self.tokenizer.vocab_size, np.int64)
        for start in range(0, split.num_examples, EXAMPLES_PER_COUNT):
            rows = split.token_ids(np.arange(start, min(start + EXAMPLES_PER_COUNT, split.num_examples)))
            counts += np.bincount(rows.ravel(), minlength=len(counts))
        counts[[self.tokenizer.pad_id, self.tokenizer.cls_id, self.tokenizer.sep_id]] = 0
        return counts


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a folder's manifest.

    Raises:
        ShardError: there is none, or it is not one of this format version.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ShardError(f"{folder} holds no prepared data: cannot read {path.name} ({error.strerror}). Run prepare first.") from error
    except ValueError as error:
        raise ShardError(f"{path} is damaged ({error}). Delete the folder and prepare the data again.") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise ShardError(f"{path} has format version {version}; this program reads {FORMAT_VERSION}. Prepare the data again.")
    missing = {"input_hash", "sequence_length", "splits", "tokenizer_fingerprint"} - manifest.keys()
    if missing or set(manifest["splits"]) != set(SPLITS):
        raise ShardError(f"{path} is incomplete. Delete the folder and prepare the data again.")
    return manifest
