import numpy as np
import pytest
import scipy.sparse

from electra_keras.data import statistics
from electra_keras.data.statistics import cooccurrences, pmi_embeddings, positive_pmi, unigram_log_probs

PAD, UNK, CLS, SEP, MASK = SPECIAL_IDS = (0, 1, 2, 3, 4)


class Rows:
    """A split made of written-out rows; [PAD] fills them up."""

    def __init__(self, rows, length):
        self.num_examples = len(rows)
        self.rows = np.full((len(rows), length), PAD, np.int32)
        for row, ids in zip(self.rows, rows, strict=True):
            row[: len(ids)] = ids
        self.sizes = np.array([[len(ids)] * 2 for ids in rows], np.int32).reshape(-1, 2)

    def token_ids(self, indices):
        return self.rows[indices]

    def lengths(self, indices):
        return self.sizes[indices]


def random_rows(num_rows, vocab_size, length=20, seed=0):
    """Rows in which every token is likely followed by one of few others, so that there is something to find."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        word, row = int(generator.integers(5, vocab_size)), [CLS]
        for _ in range(int(generator.integers(3, length - 2))):
            row.append(word)
            word = 5 + (word * 7 + int(generator.integers(0, 4))) % (vocab_size - 5)
        rows.append([*row, SEP])
    return Rows(rows, length)


def count_slowly(split, vocab_size, window):
    counts = np.zeros((vocab_size, vocab_size))
    for row, (_, size) in zip(split.rows, split.sizes, strict=True):
        for i in range(size):
            for j in range(size):
                if 0 < abs(i - j) <= window and not {row[i], row[j]} & set(SPECIAL_IDS):
                    counts[row[i], row[j]] += 1 / abs(i - j)
    return counts


def test_unigram_log_probs_by_hand():
    counts = np.array([9, 0, 3, 0])
    log_probs = unigram_log_probs(counts)
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs), [10 / 16, 1 / 16, 4 / 16, 1 / 16], rtol=1e-6)
    assert counts.tolist() == [9, 0, 3, 0]


def test_cooccurrences_by_hand():
    split = Rows([[CLS, 5, 6, SEP, 7, SEP], [CLS, 5, 5, SEP]], length=8)
    counts = cooccurrences(split, 8, special_ids=SPECIAL_IDS, window=2, max_tokens=1000).toarray()
    expected = np.zeros((8, 8))
    expected[5, 6] = expected[6, 5] = 1.0
    # [SEP] is no neighbour and takes a place: 6 and 7 are at distance 2, 5 and 7 too far apart.
    expected[6, 7] = expected[7, 6] = 0.5
    expected[5, 5] = 2.0
    np.testing.assert_allclose(counts, expected)


@pytest.mark.parametrize("window", [1, 4, 50])
def test_cooccurrences_against_a_slow_count(window, monkeypatch):
    monkeypatch.setattr(statistics, "_CHUNK_TOKENS", 60)
    split = random_rows(13, 12)
    counts = cooccurrences(split, 12, special_ids=SPECIAL_IDS, window=window, max_tokens=10**6)
    np.testing.assert_allclose(counts.toarray(), count_slowly(split, 12, window))


def test_long_corpora_are_sampled_over_their_whole_length():
    split = Rows([[CLS, 5 + row, 5 + row, SEP] for row in range(10)], length=4)
    counts = cooccurrences(split, 15, special_ids=SPECIAL_IDS, window=1, max_tokens=20)
    assert np.flatnonzero(counts.toarray().diagonal()).tolist() == [5, 7, 9, 11, 13]


def test_positive_pmi_by_hand():
    counts = scipy.sparse.csr_array(np.array([[0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    pmi = positive_pmi(counts)
    # Marginals 4, 3, 1 of 8: log(3 * 8 / (4 * 3)) and log(1 * 8 / (4 * 1)).
    np.testing.assert_allclose(pmi.toarray(), np.log(2) * np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]), rtol=1e-6)
    assert pmi.dtype == np.float32


def test_pairs_rarer_than_by_chance_count_as_zero():
    counts = scipy.sparse.csr_array(np.array([[8.0, 1.0], [1.0, 8.0]]))
    assert positive_pmi(counts).nnz == 2


@pytest.mark.parametrize("dense_up_to", [512, 0])
def test_embeddings_against_a_full_svd(dense_up_to, monkeypatch):
    monkeypatch.setattr(statistics, "_DENSE_UP_TO", dense_up_to)
    split, vocab_size, dim = random_rows(300, 60), 60, 6
    embeddings = pmi_embeddings(split, vocab_size, dim, special_ids=SPECIAL_IDS, window=3, scale=0.2)
    counts = count_slowly(split, vocab_size, 3)[5:, 5:]
    shares = counts / counts.sum()
    with np.errstate(divide="ignore"):
        pmi = np.maximum(np.log(shares / np.outer(shares.sum(0), shares.sum(0))), 0)
    left, singular, _ = np.linalg.svd(pmi)
    expected = left[:, :dim] * np.sqrt(singular[:dim])
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), np.arange(dim)])
    np.testing.assert_allclose(embeddings[5:], expected * 0.2 / expected.std(), atol=2e-4)


def test_scale_and_random_rows():
    split = random_rows(300, 60)
    embeddings = pmi_embeddings(split, 1000, 16, special_ids=SPECIAL_IDS)
    assert embeddings.shape == (1000, 16)
    assert embeddings.dtype == np.float32
    assert embeddings[5:60].std() == pytest.approx(0.05, rel=1e-4)
    unseen = np.vstack([embeddings[:5], embeddings[60:]])
    assert unseen.std() == pytest.approx(0.05, rel=0.05)
    assert len(np.unique(unseen, axis=0)) == len(unseen)


def test_the_same_seed_gives_the_same_values_and_another_only_other_random_rows(monkeypatch):
    monkeypatch.setattr(statistics, "_DENSE_UP_TO", 0)
    split = random_rows(300, 40)
    one, again, other = (pmi_embeddings(split, 40, 5, special_ids=SPECIAL_IDS, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.isclose(one[:5], other[:5]).any()
    np.testing.assert_allclose(one[5:], other[5:], atol=1e-4)


def test_columns_beyond_the_rank_are_zero():
    split = Rows([[CLS, 5, 6, 7, SEP]], length=8)
    embeddings = pmi_embeddings(split, 8, 12, special_ids=SPECIAL_IDS)
    assert not embeddings[5:, 3:].any()
    assert embeddings[5:].any()


@pytest.mark.parametrize("rows", [[], [[CLS, 5, SEP], [CLS, SEP]]])
def test_a_corpus_without_pairs_gives_random_vectors(rows):
    embeddings = pmi_embeddings(Rows(rows, length=4), 50, 20, special_ids=SPECIAL_IDS)
    assert embeddings.std() == pytest.approx(0.05, rel=0.1)


def test_pairs_that_are_all_at_chance_give_random_vectors():
    embeddings = pmi_embeddings(Rows([[CLS, 5, 5, SEP]], length=4), 50, 20, special_ids=SPECIAL_IDS)
    assert np.isfinite(embeddings).all()
    assert embeddings[5].any()
