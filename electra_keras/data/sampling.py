"""A sample of the corpus' training split that fits into memory, for training the vocabulary."""

import heapq
from collections.abc import Iterable

from electra_keras.data.documents import Document, is_validation

# Word counts of fifty million characters settle a vocabulary of 30,000 entries; more costs time and memory only.
SAMPLE_CHARACTERS = 50_000_000


def sample_texts(documents: Iterable[Document], validation_fraction: float, characters: int = SAMPLE_CHARACTERS) -> list[str]:
    """Returns the texts of the training split, or where they are too many, of a random part of it.

    The content of a document decides whether it is in the sample, neither its place nor its file.

    Args:
        documents: all of them; read once.
        validation_fraction: documents of the validation split are left out.
        characters: size of the sample, at most (one document may go beyond).
    """
    sample: list[tuple[int, int, str]] = []
    size = 0
    for number, document in enumerate(documents):
        if is_validation(document, validation_fraction):
            continue
        # A heap of negative keys: the document with the largest key leaves first.
        heapq.heappush(sample, (-document.content_key, number, document.text))
        size += len(document.text)
        while size > characters and len(sample) > 1:
            size -= len(heapq.heappop(sample)[2])
    return [text for _, _, text in sorted(sample, key=lambda entry: entry[1])]
