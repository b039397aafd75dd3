"""Documents to shards: encoded and packed on all cores, written by one process, described by the manifest."""

import contextlib
import importlib.metadata
import pathlib
import platform
from collections.abc import Iterable
from typing import Any

from electra_keras.data.documents import Document
from electra_keras.data.encoding import DocumentEncoder, Encoded, document_batches
from electra_keras.data.packing import BlockStream, Layout
from electra_keras.data.prepared import FORMAT_VERSION, MANIFEST_FILE, SPLITS
from electra_keras.data.progress import Progress, Report
from electra_keras.data.shards import ShardWriter
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.workers import parallel_map
from electra_keras.files import sha256_of_json, write_json


def example_layout(tokenizer: WordPieceTokenizer, sequence_length: int) -> Layout:
    """Returns the layout of a tokenizer's examples, with two bytes an id where they suffice."""
    return Layout(
        sequence_length=sequence_length,
        dtype="uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
    )


def write_splits(folder: pathlib.Path, encoder: DocumentEncoder, documents: Iterable[Document], report: Report) -> dict[str, Any]:
    """Encodes all documents on all cores and writes the shards.

    Args:
        folder: gets the shards.
        encoder: turns batches of documents into examples.
        documents: read as a stream.
        report: gets a line now and then.

    Returns:
        The manifest's section "splits": documents, characters, tokens, examples and shards of each.
    """
    progress = Progress(report, "Encoded")
    with contextlib.ExitStack() as stack:
        writers = {name: _SplitWriter(stack.enter_context(ShardWriter(folder, name, encoder.layout)), encoder) for name in SPLITS}
        for batch in parallel_map(encoder, document_batches(documents)):
            for name, encoded in batch.items():
                writers[name].write(encoded)
                progress.advance(encoded.documents, encoded.characters)
        splits = {name: writer.finish() for name, writer in writers.items()}
    progress.finish()
    return splits


def write_manifest(folder: pathlib.Path, encoder: DocumentEncoder, inputs: dict[str, Any], splits: dict[str, Any]) -> None:
    """Writes the tokenizer and, as the last file, the manifest."""
    encoder.tokenizer.save(folder)
    versions = {name: importlib.metadata.version(name) for name in ("tokenizers", "numpy")}
    manifest = {
        "format_version": FORMAT_VERSION,
        "input_hash": sha256_of_json(inputs),
        "inputs": inputs,
        "versions": {"python": platform.python_version(), **versions},
        "tokenizer_fingerprint": encoder.tokenizer.fingerprint,
        "vocab_size": encoder.tokenizer.vocab_size,
        "sequence_length": encoder.layout.sequence_length,
        "dtype": encoder.layout.dtype,
        "splits": splits,
    }
    write_json(folder / MANIFEST_FILE, manifest)


class _SplitWriter:
    """Counts and writes what becomes of one split."""

    def __init__(self, shards: ShardWriter, encoder: DocumentEncoder):
        self._shards, self._blocks = shards, BlockStream(encoder.layout, encoder.packing.single_segment_prob)
        self._documents = self._characters = 0

    def write(self, encoded: Encoded) -> None:
        self._documents += encoded.documents
        self._characters += encoded.characters
        self._shards.write(self._blocks.push(encoded.token_ids) if encoded.examples is None else encoded.examples)

    def finish(self) -> dict[str, Any]:
        self._shards.write(self._blocks.flush())
        shards = self._shards.finish()
        return {
            "documents": self._documents,
            "characters": self._characters,
            "num_tokens": self._shards.num_tokens,
            "num_examples": self._shards.num_examples,
            "shards": shards,
        }
