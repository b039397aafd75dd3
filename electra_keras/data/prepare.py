"""Raw text to prepared data: corpus, tokenizer, examples, shards, manifest.

Everything is written into a folder beside the one asked for, which takes its name in the end: a prepare that was killed
leaves nothing that opens. The manifest holds a hash of all inputs, so that a second run with the same ones reuses what is there.
"""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from electra_keras.config import Config, to_dict
from electra_keras.data.corpus import Source, open_corpus
from electra_keras.data.documents import Document
from electra_keras.data.encoding import DocumentEncoder, Encoded, document_batches
from electra_keras.data.packing import BlockStream, Layout
from electra_keras.data.prepared import FORMAT_VERSION, MANIFEST_FILE, SPLITS, PreparedData
from electra_keras.data.replacing import replaced_folder
from electra_keras.data.sampling import sample_texts
from electra_keras.data.shards import ShardWriter
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.workers import parallel_map
from electra_keras.errors import CorpusError, ShardError, TokenizerError, UserError
from electra_keras.files import sha256_of, sha256_of_json, write_json

SECONDS_BETWEEN_REPORTS = 5.0
# Raise it when packing changes, so that prepared data is made again.
PACKING_VERSION = 1

Report = Callable[[str], None]


def prepare(config: Config, out_dir: str | os.PathLike, report: Report = print) -> PreparedData:
    """Makes a folder of prepared data, or reuses it when it was made from the same inputs.

    Inputs are compared by hash: of the corpus (the content of files; for the built-in corpus the packages' versions and
    the names and sizes of their sources; for the hub the data set's fingerprint), of a vocabulary file, and of
    the sections tokenizer and packing.

    Args:
        config: its sections corpus, tokenizer and packing say what is made; training.batch_size how much must come out.
        out_dir: the folder; one that holds other prepared data is replaced when the new one is complete.
        report: gets a line now and then.

    Raises:
        CorpusError: the corpus cannot be read, or is too small.
        TokenizerError: the vocabulary cannot be read or trained.
        UserError: out_dir cannot be written, holds something else, or the disk is full.
    """
    out_dir = pathlib.Path(out_dir)
    source = open_corpus(config.corpus)
    inputs = describe_inputs(config, source)
    earlier = _open_earlier(out_dir, report)
    if earlier is not None and earlier.manifest["input_hash"] == sha256_of_json(inputs):
        _check_sizes(earlier.manifest["splits"], config)
        report(f"Reusing the prepared data in {out_dir}: corpus, tokenizer and packing are the same.")
        return earlier
    if earlier is not None:
        changed = [name for name in inputs if inputs[name] != earlier.manifest["inputs"].get(name)]
        report(f"Preparing {out_dir} again: changed since are {', '.join(changed)}.")
    try:
        with replaced_folder(out_dir) as folder:
            _build(folder, config, source, inputs, earlier, report)
    except OSError as error:
        raise UserError(f"Cannot write {out_dir}: {error.strerror or error}. Free some space or choose another folder.") from error
    return PreparedData.open(out_dir, verify=False)


def describe_inputs(config: Config, source: Source) -> dict[str, Any]:
    """Returns, as JSON values, everything that decides what is prepared: equal descriptions, equal data."""
    tokenizer = to_dict(config.tokenizer)
    if config.tokenizer.vocab_file is not None:
        try:
            # Which words it holds matters, not where it lies, and none of the settings of training do.
            tokenizer.update(vocab_file=sha256_of(config.tokenizer.vocab_file), vocab_size=None, min_frequency=None)
        except OSError as error:
            path = config.tokenizer.vocab_file
            raise TokenizerError(f"Cannot read the vocabulary {path}: {error.strerror}. Check tokenizer.vocab_file.") from error
    return {
        "corpus": source.describe(),
        "validation_fraction": config.corpus.validation_fraction,
        "tokenizer": tokenizer,
        "tokenizers_version": importlib.metadata.version("tokenizers"),
        "packing": to_dict(config.packing),
        "packing_version": PACKING_VERSION,
    }


def _open_earlier(out_dir: pathlib.Path, report: Report) -> PreparedData | None:
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return None
    if not (out_dir / MANIFEST_FILE).is_file():
        raise UserError(f"{out_dir} holds something that prepare did not make. Choose another folder.")
    try:
        return PreparedData.open(out_dir)
    except (ShardError, TokenizerError) as error:
        report(f"Not reusing {out_dir}: {error}")
        return None


def _build(
    folder: pathlib.Path, config: Config, source: Source, inputs: dict[str, Any], earlier: PreparedData | None, report: Report
) -> None:
    tokenizer = _tokenizer(config, source, inputs, earlier, report)
    layout = Layout(
        sequence_length=config.packing.sequence_length,
        dtype="uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
    )
    encoder = DocumentEncoder(tokenizer, layout, config.packing, config.corpus.validation_fraction)
    splits = _write_shards(folder, encoder, source.documents(), report)
    _check_sizes(splits, config)
    tokenizer.save(folder)
    manifest = {
        "format_version": FORMAT_VERSION,
        "input_hash": sha256_of_json(inputs),
        "inputs": inputs,
        "versions": {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in ("tokenizers", "numpy")}},
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "sequence_length": layout.sequence_length,
        "dtype": layout.dtype,
        "splits": splits,
    }
    write_json(folder / MANIFEST_FILE, manifest)


def _tokenizer(config: Config, source: Source, inputs: dict[str, Any], earlier: PreparedData | None, report: Report) -> WordPieceTokenizer:
    """Loads the vocabulary, takes the one of the earlier data when its inputs are the same, or trains one."""
    if config.tokenizer.vocab_file is not None:
        return WordPieceTokenizer.from_vocab_file(config.tokenizer.vocab_file, config.tokenizer)
    decisive = ("corpus", "validation_fraction", "tokenizer", "tokenizers_version")
    if earlier is not None and all(earlier.manifest["inputs"].get(name) == inputs[name] for name in decisive):
        report("Reusing the vocabulary: corpus and tokenizer settings are the same.")
        return earlier.tokenizer
    report("Reading the corpus for the vocabulary.")
    progress = _Progress(report, "Read")
    texts = sample_texts(progress.watch(source.documents()), config.corpus.validation_fraction)
    progress.finish()
    if not texts:
        raise CorpusError(
            "The corpus has no training documents: all of them fell into validation. Give more, or lower corpus.validation_fraction."
        )
    started = time.perf_counter()
    report(f"Training the vocabulary on {sum(map(len, texts)) / 1e6:.1f} million characters.")
    tokenizer = WordPieceTokenizer.train(texts, config.tokenizer)
    report(f"Trained a vocabulary of {tokenizer.vocab_size:,} entries in {time.perf_counter() - started:.0f} s.")
    return tokenizer


def _write_shards(folder: pathlib.Path, encoder: DocumentEncoder, documents: Iterable[Document], report: Report) -> dict[str, Any]:
    """Encodes all documents on all cores and writes the shards; returns the manifest's section "splits"."""
    progress = _Progress(report, "Encoded")
    with contextlib.ExitStack() as stack:
        writers = {name: _SplitWriter(stack.enter_context(ShardWriter(folder, name, encoder.layout)), encoder.layout) for name in SPLITS}
        for batch in parallel_map(encoder, document_batches(documents)):
            for name, encoded in batch.items():
                writers[name].write(encoded)
                progress.advance(encoded.documents, encoded.characters)
        splits = {name: writer.finish() for name, writer in writers.items()}
    progress.finish()
    return splits


class _SplitWriter:
    """Counts and writes what becomes of one split."""

    def __init__(self, shards: ShardWriter, layout: Layout):
        self._shards, self._blocks = shards, BlockStream(layout)
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


class _Progress:
    """Reports documents and characters a second, every few seconds and at the end."""

    def __init__(self, report: Report, verb: str):
        self._report, self._verb = report, verb
        self._started = self._reported = time.perf_counter()
        self._documents = self._characters = 0

    def watch(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yields the documents and counts them."""
        for document in documents:
            self.advance(1, len(document.text))
            yield document

    def advance(self, documents: int, characters: int) -> None:
        """Counts more documents with so many characters."""
        self._documents += documents
        self._characters += characters
        if time.perf_counter() - self._reported >= SECONDS_BETWEEN_REPORTS:
            self._reported = time.perf_counter()
            self._report(f"{self._line()} so far.")

    def finish(self) -> None:
        """Reports the whole."""
        self._report(f"{self._line()}.")

    def _line(self) -> str:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        megabytes = self._characters / 1e6
        return (
            f"{self._verb} {self._documents:,} documents, {megabytes:.1f} million characters in {seconds:.0f} s "
            f"({self._documents / seconds:,.0f} documents/s, {megabytes / seconds:.1f} MB/s)"
        )


def _check_sizes(splits: dict[str, Any], config: Config) -> None:
    """Raises CorpusError when the training split is smaller than a batch, or the validation split is empty."""
    train, validation = splits["train"], splits["validation"]
    documents = train["documents"] + validation["documents"]
    if train["num_examples"] < config.training.batch_size:
        raise CorpusError(
            f"The corpus is smaller than one batch: its {train['documents']:,} training documents make {train['num_examples']:,} examples "
            f"of {config.packing.sequence_length} tokens, and training.batch_size is {config.training.batch_size:,}. "
            "Give more text, or lower training.batch_size or packing.sequence_length."
        )
    if not validation["num_examples"]:
        raise CorpusError(
            f"None of the {documents:,} documents fell into the validation split (corpus.validation_fraction "
            f"{config.corpus.validation_fraction}). Give more documents (in .txt files a blank line ends one), or raise the fraction."
        )
