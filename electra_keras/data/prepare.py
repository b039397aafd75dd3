"""Raw text to prepared data: corpus, tokenizer, examples, shards, manifest.

Everything is written into a folder beside the one asked for, which takes its name in the end: a prepare that was killed
leaves nothing that opens. The manifest holds a hash of all inputs, so that a second run with the same ones reuses what is there.
"""

import importlib.metadata
import os
import pathlib
import time
from typing import Any

from electra_keras.config import Config, to_dict
from electra_keras.data.corpus import FileSource, Source, open_corpus
from electra_keras.data.encoding import DocumentEncoder
from electra_keras.data.prepared import MANIFEST_FILE, PreparedData, read_manifest
from electra_keras.data.progress import Progress, Report
from electra_keras.data.replacing import replaced_folder
from electra_keras.data.sampling import sample_texts
from electra_keras.data.shards import SHARD_FILE
from electra_keras.data.tokenizer import SETTINGS_FILE, VOCABULARY_FILE, WordPieceTokenizer
from electra_keras.data.writing import example_layout, write_manifest, write_splits
from electra_keras.errors import CorpusError, ShardError, TokenizerError, UserError
from electra_keras.files import sha256_of, sha256_of_json

# Raise it when packing changes, so that prepared data is made again.
PACKING_VERSION = 3


def prepare(config: Config, out_dir: str | os.PathLike, report: Report = print) -> PreparedData:
    """Makes a folder of prepared data, or reuses it when it was made from the same inputs.

    Inputs are compared by hash: of the corpus (the content of files; for the built-in corpus the packages' versions and
    the names and sizes of their sources; for the hub the data set's fingerprint), of a vocabulary file, and of
    the sections tokenizer and packing.

    Args:
        config: its sections corpus, tokenizer and packing say what is made; training.batch_size how much must come out.
        out_dir: the folder; one that holds other prepared data, and nothing else, is replaced when the new one is complete.
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
        _refuse_foreign_files(out_dir)
        changed = [name for name in inputs if inputs[name] != earlier.manifest["inputs"].get(name)]
        report(f"Preparing {out_dir} again: changed since are {', '.join(changed)}.")
    with replaced_folder(out_dir) as folder:
        _build(folder, config, source, inputs, earlier, report)
    data = PreparedData.open(out_dir, verify=False)
    train, held_out = (data.split(name).num_examples for name in ("train", "validation"))
    report(f"Prepared {out_dir}: {train:,} training and {held_out:,} held-out examples of up to {data.sequence_length:,} tokens.")
    return data


def prepare_files(
    files: list[str], config: Config, tokenizer: WordPieceTokenizer, out_dir: str | os.PathLike, report: Report = print
) -> PreparedData:
    """Prepares files as one validation split, with a tokenizer that is there already: for measuring a model on other text.

    Args:
        files: paths and globs, read as the configuration's corpus.files are.
        config: corpus.text_field and the section packing count.
        tokenizer: the model's.
        out_dir: an empty folder, or one that is yet to be made.
        report: gets a line now and then.

    Returns:
        The prepared data; its training split is empty.

    Raises:
        CorpusError: a file cannot be read, or they hold no tokens.
        UserError: out_dir holds something, cannot be written, or the disk is full.
    """
    out_dir = pathlib.Path(out_dir)
    if not _is_free(out_dir):
        raise UserError(f"{out_dir} is not empty. Choose another folder.")
    source = FileSource(files, config.corpus.text_field)
    inputs = {"corpus": source.describe(), "tokenizer": tokenizer.fingerprint, "packing": to_dict(config.packing)}
    layout = example_layout(tokenizer, config.packing.sequence_length)
    encoder = DocumentEncoder(tokenizer, layout, config.packing, validation_fraction=1.0)
    with replaced_folder(out_dir) as folder:
        splits = write_splits(folder, encoder, source.documents(), report)
        if not splits["validation"]["num_examples"]:
            raise CorpusError(f"{', '.join(files)}: the text holds no token that the tokenizer keeps. Give other text.")
        write_manifest(folder, encoder, inputs, splits)
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


def _is_free(folder: pathlib.Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _open_earlier(out_dir: pathlib.Path, report: Report) -> PreparedData | None:
    if _is_free(out_dir):
        return None
    try:
        return PreparedData.open(out_dir)
    except (ShardError, TokenizerError) as error:
        _refuse_foreign_files(out_dir, f" It is not reused: {error}")
        report(f"Not reusing {out_dir}: {error}")
        return None


def _refuse_foreign_files(out_dir: pathlib.Path, why: str = "") -> None:
    """Raises UserError where replacing the folder would delete what prepare did not write.

    Others, too, call a file manifest.json: prepared data has shards beside it, or it is one of ours.
    """
    if not out_dir.is_dir():
        raise UserError(f"{out_dir} is a file. Choose another folder.")
    names = sorted(path.name for path in out_dir.iterdir())
    shards = [name for name in names if SHARD_FILE.fullmatch(name)]
    is_ours = MANIFEST_FILE in names and (shards or _has_our_manifest(out_dir))
    own = {MANIFEST_FILE, VOCABULARY_FILE, SETTINGS_FILE, *shards} if is_ours else set()
    foreign = [name for name in names if name not in own]
    if foreign:
        listed = ", ".join(foreign[:3])
        raise UserError(f"{out_dir} holds something that prepare did not make ({listed}). Move it away, or choose another folder.{why}")


def _has_our_manifest(out_dir: pathlib.Path) -> bool:
    try:
        return bool(read_manifest(out_dir))
    except ShardError:
        return False


def _build(
    folder: pathlib.Path, config: Config, source: Source, inputs: dict[str, Any], earlier: PreparedData | None, report: Report
) -> None:
    tokenizer = _tokenizer(config, source, inputs, earlier, report)
    layout = example_layout(tokenizer, config.packing.sequence_length)
    encoder = DocumentEncoder(tokenizer, layout, config.packing, config.corpus.validation_fraction)
    splits = write_splits(folder, encoder, source.documents(), report)
    _check_sizes(splits, config)
    write_manifest(folder, encoder, inputs, splits)


def _tokenizer(config: Config, source: Source, inputs: dict[str, Any], earlier: PreparedData | None, report: Report) -> WordPieceTokenizer:
    """Loads the vocabulary, takes the one of the earlier data when its inputs are the same, or trains one."""
    if config.tokenizer.vocab_file is not None:
        return WordPieceTokenizer.from_vocab_file(config.tokenizer.vocab_file, config.tokenizer)
    decisive = ("corpus", "validation_fraction", "tokenizer", "tokenizers_version")
    if earlier is not None and all(earlier.manifest["inputs"].get(name) == inputs[name] for name in decisive):
        report("Reusing the vocabulary: corpus and tokenizer settings are the same.")
        return earlier.tokenizer
    report("Reading the corpus for the vocabulary.")
    progress = Progress(report, "Read")
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
