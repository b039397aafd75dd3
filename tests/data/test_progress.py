import itertools

import pytest

from electra_keras.data.documents import Document
from electra_keras.data.progress import Progress


@pytest.fixture
def seconds(monkeypatch):
    """A clock that goes on by two seconds every time it is read."""
    clock = itertools.count(0, 2)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))


def test_rates_are_reported_now_and_then_and_at_the_end(seconds):
    lines = []
    progress = Progress(lines.append, "Read")
    documents = [Document("x" * 1_000_000, "")] * 4
    assert list(progress.watch(documents)) == documents
    progress.finish()
    assert len(lines) == 2
    assert lines[0].startswith("Read 3 documents, 3.0 million characters in") and lines[0].endswith("so far.")
    assert lines[1] == "Read 4 documents, 4.0 million characters in 14 s (0 documents/s, 0.3 million characters/s)."


def test_one_document_and_a_short_time_are_said_as_they_are(seconds):
    lines = []
    progress = Progress(lines.append, "Read")
    # Three bytes a character in UTF-8, which no rate may count.
    progress.advance(1, len("水" * 3_000_000))
    progress.finish()
    assert lines == ["Read 1 document, 3.0 million characters in 4.0 s (0 documents/s, 0.8 million characters/s)."]
