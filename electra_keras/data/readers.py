"""Text files to documents: .txt, .jsonl and .parquet, plain or compressed, read as a stream.

In .txt a blank line (white space alone counts as blank) ends a document. A row of .jsonl or .parquet is a document; one whose text is
null holds none.
"""

import codecs
import contextlib
import glob
import gzip
import io
import itertools
import json
import lzma
import os
import pathlib
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

import zstandard

from electra_keras.data.documents import Document, join_paragraphs, split_lines
from electra_keras.errors import CorpusError
from electra_keras.files import sha256_of

FORMATS = (".txt", ".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".xz", ".zst")
BLOCK_BYTES = 1 << 20
# A line without end is cut here, so that it cannot fill the memory; about the largest document.
MAX_LINE_CHARACTERS = 1 << 20
# Small, since one read can unfold to a thousand times its size.
ZSTANDARD_READ_BYTES = 1 << 14
# The largest that zstd has, by --long=31; a frame takes as much memory as it asks for.
ZSTANDARD_WINDOW_BYTES = 1 << 31
PARQUET_BATCH_ROWS = 256


def find_files(patterns: list[str]) -> list[pathlib.Path]:
    """Resolves paths and globs, in the order given, what one glob matches sorted by name, each file once.

    Raises:
        CorpusError: a path does not exist, a glob matches nothing, or a name is not UTF-8 or has an ending that is not read.
    """
    found = {}
    for pattern in patterns:
        # A file whose name holds a bracket is a file before it is a pattern.
        pattern = os.path.expanduser(pattern)
        matches = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        files = [pathlib.Path(match) for match in matches if not os.path.isdir(match)]
        if not files:
            raise CorpusError(_nothing_found(pattern))
        for path in files:
            check_name(path)
            file_format(path)
            found[path] = None
    return list(found)


def file_format(path: pathlib.Path) -> str:
    """Returns ".txt", ".jsonl" or ".parquet", the ending below a compression's.

    Raises:
        CorpusError: the ending is another one.
    """
    name = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    if name.suffix not in FORMATS:
        raise CorpusError(f"{path} is not read: its name must end in {', '.join(FORMATS)}, or these with {', '.join(COMPRESSIONS)}.")
    return name.suffix


def check_name(path: pathlib.Path) -> None:
    """Raises CorpusError when a file's path is not UTF-8, and so cannot stand in a manifest."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise CorpusError(f"The name of {shown} is not UTF-8. Rename it.") from error


def hash_file(path: pathlib.Path) -> str:
    """Returns the hexadecimal SHA-256 of a corpus file's bytes.

    Raises:
        CorpusError: the file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike, error: OSError) -> CorpusError:
    """Returns what to tell the user where the system does not let a corpus file be read."""
    return CorpusError(f"Cannot read {path}: {error.strerror or error}. Check the path, the permissions and the file.")


def read_documents(path: pathlib.Path, text_field: str) -> Iterator[Document]:
    """Reads one file's documents.

    Args:
        path: a file that `find_files` returned.
        text_field: the field of .jsonl and .parquet rows that holds the text.

    Raises:
        CorpusError: the file is unreadable, empty, damaged, binary or not UTF-8, or a row lacks the field.
    """
    readers = {".txt": _read_text, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    found = False
    try:
        for document in readers[file_format(path)](path, text_field):
            found = True
            yield document
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{path} is damaged or not compressed as its name says ({error}). Fetch or compress it again.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not found:
        raise CorpusError(f"{path} holds no text. Leave it out, or put text into it.")


def _nothing_found(pattern: str) -> str:
    if os.path.isdir(pattern):
        return f"{pattern} is a folder; name its files, for example {os.path.join(pattern, '*.txt')}."
    if glob.has_magic(pattern):
        return f"No file matches {pattern}. Check corpus.files; put the pattern in quotes if the shell should not expand it."
    return f"There is no file {pattern}. Check corpus.files."


def _read_text(path: pathlib.Path, text_field: str) -> Iterator[Document]:
    def paragraphs():
        for _, line in _lines(path, MAX_LINE_CHARACTERS):
            yield None if not line or line.isspace() else line

    return join_paragraphs(paragraphs(), os.fspath(path))


def _read_json_lines(path: pathlib.Path, text_field: str) -> Iterator[Document]:
    for number, line in _lines(path, None):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{path}, line {number} is not JSON ({error}). Every line must be one object.") from error
        if not isinstance(row, dict) or text_field not in row:
            fields = ", ".join(row) if isinstance(row, dict) else f"a {type(row).__name__}, no object"
            raise CorpusError(f"{path}, line {number} has no field {text_field!r} (it has {fields or 'none'}). Set corpus.text_field.")
        text = row[text_field]
        if text is not None and not isinstance(text, str):
            raise CorpusError(f"{path}, line {number}: the field {text_field!r} is no text but {type(text).__name__}.")
        yield from join_paragraphs(split_lines(text or ""), os.fspath(path))


def _read_parquet(path: pathlib.Path, text_field: str) -> Iterator[Document]:
    # Imported late: it takes a while to load, and few corpora are Parquet.
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        try:
            file = pyarrow.parquet.ParquetFile(stack.enter_context(_seekable(path)))
        except pyarrow.ArrowInvalid as error:
            raise CorpusError(f"{path} is not a Parquet file ({error}). Fetch it again.") from error
        schema = file.schema_arrow
        if text_field not in schema.names:
            raise CorpusError(f"{path} has no column {text_field!r} (it has {', '.join(schema.names)}). Set corpus.text_field.")
        kind = schema.field(text_field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise CorpusError(f"{path}: the column {text_field!r} is no text but {kind}. Set corpus.text_field.")
        row = 1
        for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=[text_field]):
            try:
                texts = batch.column(0).to_pylist()
            except UnicodeDecodeError as error:
                rows = f"rows {row:,} to {row + batch.num_rows - 1:,}"
                message = f"{path}: the column {text_field!r} is not UTF-8 in {rows} ({error.reason}). Convert its text to UTF-8."
                raise CorpusError(message) from error
            row += batch.num_rows
            for text in texts:
                yield from join_paragraphs(split_lines(text or ""), os.fspath(path))


def _seekable(path: pathlib.Path) -> IO[bytes]:
    # Parquet is read from its end; a compressed one is unpacked into a temporary file, which costs disk and not memory.
    if path.suffix not in COMPRESSIONS:
        return open(path, "rb")
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    unpacked.writelines(_blocks(path))
    unpacked.seek(0)
    return unpacked


def _lines(path: pathlib.Path, longest: int | None) -> Iterator[tuple[int, str]]:
    """Yields line numbers from 1 and lines without their ends; a line over `longest` characters comes in parts."""
    pending, number = "", 1
    for text in _decoded(path):
        *whole, pending = (pending + text).split("\n")
        for line in whole:
            yield number, line
            number += 1
        while longest is not None and len(pending) > longest:
            cut = pending.rfind(" ", 1, longest) + 1 or longest
            yield number, pending[:cut]
            pending = pending[cut:]
    if pending:
        yield number, pending


def _decoded(path: pathlib.Path) -> Iterator[str]:
    """Yields the text of a file in parts, line ends as \\n, and raises CorpusError at the first byte that is no text."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    position, line, first = 0, 1, True
    for block in itertools.chain(_blocks(path), [b""]):
        if (zero := block.find(0)) >= 0:
            raise CorpusError(f"{path} is binary: byte {position + zero} is zero. Give plain text in UTF-8.")
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            # The object holds the bytes of a character that the block before began, then this block.
            start = position - (len(error.object) - len(block)) + error.start
            line += error.object[: error.start].count(b"\n")
            raise CorpusError(
                f"{path} is not UTF-8 at line {line}, byte {start} ({error.reason}). Convert it, for example with iconv."
            ) from error
        position += len(block)
        line += block.count(b"\n")
        if text:
            yield text.removeprefix("\ufeff") if first else text
            first = False


def _blocks(path: pathlib.Path) -> Iterator[bytes]:
    """Yields a file's bytes, decompressed, none of them empty."""
    if path.suffix == ".zst":
        yield from _zstandard_blocks(path)
        return
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _zstandard_blocks(path: pathlib.Path) -> Iterator[bytes]:
    # Frame by frame, because zstandard's file objects take a truncated file for a short one.
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTANDARD_WINDOW_BYTES)
    frame = None
    with open(path, "rb") as file:
        while data := file.read(ZSTANDARD_READ_BYTES):
            while data:
                frame = frame or decompressor.decompressobj()
                if block := frame.decompress(data):
                    yield block
                data = frame.unused_data
                if frame.eof:
                    frame = None
    if frame is not None:
        raise EOFError("it ends too early")
