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
    assert lines[1] == "Read 4 documents, 4.0 million characters in 14 s (0 documents/s, 0.3 MB/s)."
