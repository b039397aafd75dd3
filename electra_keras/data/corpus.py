"""Where text comes from: files, a data set on the hub, or the built-in corpus, all as a stream of documents."""

from collections.abc import Iterator
from typing import Any, Protocol

from electra_keras.config import CorpusConfig
from electra_keras.data.builtin import BuiltinSource
from electra_keras.data.documents import Document, is_validation
from electra_keras.data.hub import HubSource
from electra_keras.data.readers import file_format, find_files, hash_file, read_documents

__all__ = ["Document", "FileSource", "Source", "documents", "is_validation", "open_corpus"]


class Source(Protocol):
    """A corpus that can be described without reading it all, and read more than once."""

    def describe(self) -> dict[str, Any]:
        """Returns, as JSON values, everything that decides the text: equal descriptions, equal documents."""

    def documents(self) -> Iterator[Document]:
        """Yields all documents, always in the same order."""


class FileSource:
    """Documents from the user's own files.

    Args:
        patterns: paths and globs.
        text_field: the field of .jsonl and .parquet rows that holds the text.

    Raises:
        CorpusError: a file is missing or has a name that is not read, or a glob matches nothing.
    """

    def __init__(self, patterns: list[str], text_field: str):
        self.paths = find_files(patterns)
        self.text_field = text_field

    def describe(self) -> dict[str, Any]:
        """Returns the SHA-256 of every file in order; where the files stand does not matter.

        Raises:
            CorpusError: a file cannot be read.
        """
        files = [{"name": path.name, "format": file_format(path), "sha256": hash_file(path)} for path in self.paths]
        return {"kind": "files", "text_field": self.text_field, "files": files}

    def documents(self) -> Iterator[Document]:
        """Yields the documents file by file."""
        for path in self.paths:
            yield from read_documents(path, self.text_field)


def open_corpus(config: CorpusConfig) -> Source:
    """Returns the corpus that a configuration names: its files, else its hub data set, else the built-in one.

    Raises:
        CorpusError: a file, data set or package that it names is not there.
    """
    if config.files:
        return FileSource(config.files, config.text_field)
    if config.hub is not None:
        return HubSource(config.hub, config.hub_split, config.text_field)
    return BuiltinSource(config.builtin_packages)


def documents(config: CorpusConfig) -> Iterator[Document]:
    """Yields the documents of the corpus that a configuration names."""
    return open_corpus(config).documents()
