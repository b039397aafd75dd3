"""How far preparing has come, in lines for the user."""

import time
from collections.abc import Callable, Iterable, Iterator

from electra_keras.data.documents import Document

SECONDS_BETWEEN_REPORTS = 5.0

Report = Callable[[str], None]


class Progress:
    """Reports documents and characters a second, every few seconds and at the end.

    Args:
        report: gets the lines.
        verb: what is done to the documents, such as "Read".
    """

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
        millions = self._characters / 1e6
        noun = "document" if self._documents == 1 else "documents"
        # By bytes, as files are measured, a rate would depend on the script: a Chinese character has three, a Latin one.
        return (
            f"{self._verb} {self._documents:,} {noun}, {millions:.1f} million characters in {seconds:.{1 if seconds < 10 else 0}f} s "
            f"({self._documents / seconds:,.0f} documents/s, {millions / seconds:.1f} million characters/s)"
        )
