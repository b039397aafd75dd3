"""What a worker does to a batch of documents: tell the split, encode, and pack."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from electra_keras.config import PackingConfig
from electra_keras.data.documents import Document, is_validation
from electra_keras.data.packing import Examples, Layout, segment_bounds
from electra_keras.data.portions import portions
from electra_keras.data.tokenizer import WordPieceTokenizer

BATCH_CHARACTERS = 1 << 18
# The tokenizer needs some sixty bytes for each character of a text, so longer lines are encoded in pieces.
MAX_PIECE_CHARACTERS = 1 << 14


@dataclasses.dataclass
class Encoded:
    """A batch's part of one split.

    Attributes:
        documents: how many.
        characters: in their texts.
        examples: packed examples, in the style "segments".
        token_ids: (tokens,) one document after the other, to be cut into blocks, in the style "blocks".
    """

    documents: int = 0
    characters: int = 0
    examples: Examples | None = None
    token_ids: np.ndarray | None = None


@dataclasses.dataclass
class DocumentEncoder:
    """Encodes batches of documents; picklable, so that workers can be sent one."""

    tokenizer: WordPieceTokenizer
    layout: Layout
    packing: PackingConfig
    validation_fraction: float

    def __call__(self, documents: list[Document]) -> dict[str, Encoded]:
        """Returns what becomes of the documents in each split that has some."""
        splits = collections.defaultdict(list)
        for document in documents:
            splits["validation" if is_validation(document, self.validation_fraction) else "train"].append(document)
        return {name: self._encode(members) for name, members in splits.items()}

    def _encode(self, documents: list[Document]) -> Encoded:
        lines = [[piece for line in document.text.split("\n") for piece in pieces(line)] for document in documents]
        token_ids, counts = self.tokenizer.encode_ids([line for document_lines in lines for line in document_lines])
        encoded = Encoded(len(documents), sum(len(document.text) for document in documents))
        if self.packing.style == "blocks":
            encoded.token_ids = token_ids.astype(self.layout.dtype)
            return encoded
        bounds, line, offset = [], 0, 0
        for document, document_lines in zip(documents, lines, strict=True):
            line_tokens = counts[line : line + len(document_lines)]
            for start, middle, end in segment_bounds(line_tokens, self.packing, document.content_key):
                bounds.append((offset + start, offset + middle, offset + end))
            line += len(document_lines)
            offset += int(line_tokens.sum())
        encoded.examples = self.layout.examples(token_ids, bounds)
        return encoded


def pieces(line: str) -> Iterator[str]:
    """Yields a line in pieces of bounded length, cut at white space where there is any, so that no word is cut."""
    start = 0
    while len(line) - start > MAX_PIECE_CHARACTERS:
        space = line.rfind(" ", start + 1, start + MAX_PIECE_CHARACTERS)
        end = space if space > 0 else start + MAX_PIECE_CHARACTERS
        yield line[start:end]
        start = end
    yield line[start:]


def document_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Gathers documents into batches of about equal numbers of characters, the portions that workers get."""
    return portions(documents, BATCH_CHARACTERS, lambda document: len(document.text))
