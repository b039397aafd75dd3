"""A small made-up corpus on disk."""

import numpy as np

NOUNS = ["tree", "house", "river", "bird", "stone", "cloud", "road", "field"]
WORDS = [*NOUNS, "the", "a", "red", "old", "small", "sings", "grows", "falls", "waits", "near", "under", "with", "slowly"]


def write_corpus(path, documents=60, seed=0):
    """Writes documents of a few random sentences, a blank line between them; returns the path as text."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(documents):
        lines = [" ".join(rng.choice(WORDS, rng.integers(6, 12))) + "." for _ in range(rng.integers(3, 7))]
        texts.append("\n".join(lines))
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return str(path)
