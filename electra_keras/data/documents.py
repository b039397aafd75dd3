"""The unit of a corpus: one document, and the split it belongs to."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator

# Longer documents go on as further documents, so that one file without blank lines cannot fill the memory.
MAX_DOCUMENT_CHARACTERS = 1_000_000
# What `content_key` can be at most, plus one.
CONTENT_KEYS = 1 << 64


@dataclasses.dataclass(frozen=True)
class Document:
    """A text that belongs together; examples never cross from one to the next unless asked to.

    Attributes:
        text: the paragraphs, one a line.
        source: where it comes from (a file, a data set, a module), for messages.
    """

    text: str
    source: str

    @functools.cached_property
    def content_key(self) -> int:
        """An integer in [0, 2**64) that depends on the text alone (the first bytes of its SHA-256)."""
        return int.from_bytes(hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()[:8])


def is_validation(document: Document, fraction: float) -> bool:
    """Tells whether a document is held out.

    The text alone decides, so a document stays on its side when files are added, renamed or reordered, and a text
    that occurs twice never stands on both sides.

    Args:
        document: the document.
        fraction: share of documents held out, in (0, 1).
    """
    return document.content_key < fraction * CONTENT_KEYS


def split_lines(text: str) -> list[str]:
    """Splits text at line breaks, and not, as str.splitlines does, at form feeds and the like."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def join_paragraphs(paragraphs: Iterable[str | None], source: str) -> Iterator[Document]:
    """Gathers paragraphs into documents; None ends a document, and so does its largest length.

    Args:
        paragraphs: text without line breaks at its ends; white space alone is skipped.
        source: of the documents.
    """
    parts, size = [], 0
    for paragraph in paragraphs:
        if paragraph is not None and not paragraph.isspace() and paragraph:
            parts.append(paragraph)
            size += len(paragraph)
        if parts and (paragraph is None or size >= MAX_DOCUMENT_CHARACTERS):
            yield Document("\n".join(parts), source)
            parts, size = [], 0
    if parts:
        yield Document("\n".join(parts), source)
