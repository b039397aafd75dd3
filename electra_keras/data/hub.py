"""Documents from data sets on the Hugging Face hub, or from a local folder of the same layout, through `datasets`."""

import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from electra_keras.data.documents import Document, join_paragraphs, split_lines
from electra_keras.data.readers import check_name, hash_file
from electra_keras.errors import CorpusError

ROWS_PER_BATCH = 256
# Rows that tell how a data set is laid out.
ROWS_TO_JUDGE = 1_000
# Of these, where blank rows end documents: WikiText has one in three. Fewer are rows that happen to hold no text.
MIN_BLANK_FRACTION = 0.05
# Raise it when layouts are told apart differently, so that prepared data is made again.
LAYOUT_VERSION = 2
# " = Title = " opens an article of the WikiText data sets; " = = Section = = " does not.
ARTICLE = re.compile(r"^\s*= ([^=].*[^=]|[^=]) =\s*$")
HEADING = re.compile(r"^\s*(= )+(.*?)( =)+\s*$")


class HubSource:
    """The rows of one split of a data set.

    A row is a document, with two exceptions that are told from the first rows. Where articles open with " = Title = ", as in
    WikiText, rows are lines and such a row opens a document. Where rows are single lines and at least one in twenty is
    blank, a blank row ends a document, as in a .txt file.

    Args:
        name: NAME or NAME:CONFIG on the hub, or the path of a local folder in NAME's place.
        split: of the data set, such as "train"; slices such as "train[:10%]" only on the hub.
        text_field: the column that holds the text.

    Raises:
        CorpusError: the data set, its configuration or split does not exist, or the hub cannot be reached; on reading, also
            that the column does not exist.
    """

    def __init__(self, name: str, split: str, text_field: str):
        self.name, self.split, self.text_field = name, split, text_field
        self._location, self._configuration = split_name(name)
        self._local = os.path.isdir(self._location)
        self._rows = self._load()

    def describe(self) -> dict[str, Any]:
        """Returns what decides the text: for the hub `datasets`' fingerprint, which follows the revision, else the files' hashes.

        Raises:
            CorpusError: a local file cannot be read, or its name is not UTF-8.
        """
        if self._local:
            folder = pathlib.Path(self._location)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            for path in files:
                check_name(path)
            content = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
        else:
            content = self._rows._fingerprint
        return {
            "kind": "hub",
            "layout_version": LAYOUT_VERSION,
            # Where a folder lies does not decide its text.
            "name": self.name[len(self._location) :] if self._local else self.name,
            "split": self.split,
            "text_field": self.text_field,
            "content": content,
        }

    def documents(self) -> Iterator[Document]:
        """Yields the documents in the rows' order."""
        texts = self._texts()
        first = list(itertools.islice(texts, ROWS_TO_JUDGE))
        if not any(text and not text.isspace() for text in first):
            raise CorpusError(
                f"The data set {self.name} holds no text in {self.text_field!r}. Check corpus.hub_split and corpus.text_field."
            )
        return documents_of_rows(first, texts, self.name)

    def _load(self) -> Any:
        # Imported late: it takes a second to load.
        import datasets

        try:
            # From the hub: downloaded once, then read from the cache. A local folder is streamed: `datasets` would go on
            # serving its first copy after the files have changed.
            return datasets.load_dataset(self._location, self._configuration, split=self.split, streaming=self._local)
        except ConnectionError as error:
            message = f"Cannot reach the Hugging Face hub for {self.name} ({error}). Connect, or give corpus.files instead."
            raise CorpusError(message) from error
        except (OSError, ValueError) as error:
            raise CorpusError(f"Cannot load the data set {self.name}: {error} Check corpus.hub and corpus.hub_split.") from error

    def _texts(self) -> Iterator[str]:
        try:
            for batch in self._rows.iter(batch_size=ROWS_PER_BATCH):
                yield from self._column(batch)
        except (OSError, ValueError) as error:
            raise CorpusError(f"Cannot read the data set {self.name}: {error}. Fetch it again.") from error

    def _column(self, batch: dict[str, list[Any]]) -> Iterator[str]:
        if self.text_field not in batch:
            raise CorpusError(
                f"The data set {self.name} has no column {self.text_field!r} (it has {', '.join(batch)}). Set corpus.text_field."
            )
        for text in batch[self.text_field]:
            if text is not None and not isinstance(text, str):
                raise CorpusError(f"The column {self.text_field!r} of {self.name} is no text but {type(text).__name__}.")
            yield text or ""


def split_name(name: str) -> tuple[str, str | None]:
    """Returns where a data set is, on the hub or on this machine, and its configuration; a folder's own name may hold a colon."""
    location, _, configuration = name.rpartition(":")
    has_configuration = location and "/" not in configuration and not os.path.isdir(name)
    return (location, configuration or None) if has_configuration else (name, None)


def was_local(description: Mapping[str, Any]) -> bool:
    """Whether what `HubSource.describe` described was a folder."""
    return isinstance(description["content"], Mapping)


def documents_of_rows(first: list[str], rest: Iterable[str], source: str) -> Iterator[Document]:
    """Puts rows together to documents, in the layout that the first of them show."""
    texts = itertools.chain(first, rest)
    if any(ARTICLE.match(text) for text in first):
        return join_paragraphs(_article_lines(texts), source)
    blank = sum(not text or text.isspace() for text in first)
    if blank >= MIN_BLANK_FRACTION * len(first) and not any("\n" in text.strip() for text in first):
        return join_paragraphs((text.strip() or None for text in texts), source)
    return itertools.chain.from_iterable(join_paragraphs(split_lines(text), source) for text in texts)


def _article_lines(texts: Iterable[str]) -> Iterator[str | None]:
    for text in texts:
        if ARTICLE.match(text):
            yield None
        heading = HEADING.match(text)
        yield heading[2] if heading else text.strip()
