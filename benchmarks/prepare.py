"""Measures `prepare` against `tokenizers.encode_batch` alone, on the same text and the same cores.

    python benchmarks/prepare.py --out benchmarks/results/prepare.json [--files 'wiki/*.txt.xz' ...] [--vocab_size 30522]

Without --files the built-in corpus is used. The rows say how long a first prepare takes (vocabulary included), how fast one with a
given vocabulary is, and how fast encode_batch is; peak memory is that of the process and all its workers together.
"""

import argparse
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

from machine import describe

from electra_keras.config import Config, CorpusConfig, PackingConfig, TokenizerConfig, TrainingConfig
from electra_keras.data.corpus import documents
from electra_keras.data.prepare import prepare
from electra_keras.data.prepared import PreparedData
from electra_keras.files import write_json

# As much text as one call of encode_batch gets: enough for all cores to share.
BASELINE_CHARACTERS = 4_000_000
SECONDS_BETWEEN_SAMPLES = 0.05


class PeakMemory:
    """Samples the resident memory of this process and its children while a block runs; Linux only."""

    def __enter__(self) -> "PeakMemory":
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_SAMPLES):
            self.bytes = max(self.bytes, sum(map(resident_bytes, family(os.getpid()))))


def family(process_id: int) -> Iterator[int]:
    """Yields a process and all below it."""
    yield process_id
    for task in pathlib.Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from family(int(child))


def resident_bytes(process_id: int) -> int:
    """Returns a process' resident memory, 0 when it has ended."""
    try:
        return int(pathlib.Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def main() -> None:
    """Runs the three measurements and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--files", nargs="*", default=[], help="paths and globs of text files; the built-in corpus by default")
    parser.add_argument("--vocab_size", type=int, default=30_522)
    parser.add_argument("--sequence_length", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(pathlib.Path(folder), arguments)
    for row in rows:
        print(row)
    corpus = [pathlib.Path(name).name for name in arguments.files] or "builtin"
    write_json(arguments.out, {"machine": describe(), "corpus": corpus, "vocab_size": arguments.vocab_size, "rows": rows})


def measure(folder: pathlib.Path, arguments: argparse.Namespace) -> list[dict]:
    """Returns one row for each measurement."""
    corpus = CorpusConfig(files=arguments.files or [os.fspath(write_builtin(folder / "builtin.txt"))])
    packing = PackingConfig(sequence_length=arguments.sequence_length)
    training = TrainingConfig(batch_size=1)
    tokenizer = TokenizerConfig(vocab_size=arguments.vocab_size)
    rows = []
    with PeakMemory() as memory:
        started = time.perf_counter()
        data = prepare(Config(corpus=corpus, tokenizer=tokenizer, packing=packing, training=training), folder / "first")
        rows.append(row("prepare, vocabulary trained", data, time.perf_counter() - started, memory))
    given = TokenizerConfig(vocab_file=os.fspath(folder / "first" / "vocab.txt"))
    for style in ("segments", "blocks"):
        packing = PackingConfig(sequence_length=arguments.sequence_length, style=style)
        with PeakMemory() as memory:
            started = time.perf_counter()
            data = prepare(Config(corpus=corpus, tokenizer=given, packing=packing, training=training), folder / style)
            rows.append(row(f"prepare, vocabulary given, {style}", data, time.perf_counter() - started, memory))
    rows.append(row("encode_batch alone", data, encode_batch_seconds(corpus, data), None))
    for measured in rows:
        measured["speed_over_encode_batch"] = round(rows[-1]["seconds"] / measured["seconds"], 3)
    return rows


def write_builtin(path: pathlib.Path) -> pathlib.Path:
    """Writes the built-in corpus as a text file."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{document.text}\n\n" for document in documents(CorpusConfig()))
    return path


def encode_batch_seconds(corpus: CorpusConfig, data: PreparedData) -> float:
    """Returns how long encode_batch takes for the corpus' lines, reading them not counted."""
    seconds, batch, size = 0.0, [], 0
    tokenizer = data.tokenizer.backend

    def encode() -> float:
        started = time.perf_counter()
        tokenizer.encode_batch(batch, add_special_tokens=False)
        return time.perf_counter() - started

    for document in documents(corpus):
        batch += document.text.split("\n")
        size += len(document.text)
        if size >= BASELINE_CHARACTERS:
            seconds += encode()
            batch, size = [], 0
    return seconds + encode()


def row(name: str, data: PreparedData, seconds: float, memory: PeakMemory | None) -> dict:
    """Returns one row of the results."""
    splits = data.manifest["splits"].values()
    count, characters = sum(split["documents"] for split in splits), sum(split["characters"] for split in splits)
    return {
        "name": name,
        "documents": count,
        "characters": characters,
        "seconds": round(seconds, 2),
        "documents_per_second": round(count / seconds, 1),
        "megabytes_per_second": round(characters / 1e6 / seconds, 3),
        "peak_memory_megabytes": None if memory is None else round(memory.bytes / 1e6),
    }


if __name__ == "__main__":
    main()
