"""What simple counts tell about a corpus: token frequencies, and embeddings from which tokens stand near which.

Both are starting points for training: on the built-in corpus a model that starts from them leaves the unigram plateau hundreds of
steps earlier.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import threadpoolctl

from electra_keras.data.examples import ExampleSource, evenly_spread

# Tokens counted at once, padding included; their pairs take about 20 MB.
_CHUNK_TOKENS = 1 << 19
# Up to this many tokens all eigenvectors at once take less than half a second, and any rank is handled exactly.
_DENSE_UP_TO = 512


def unigram_log_probs(counts: np.ndarray) -> np.ndarray:
    """Returns the logarithms of smoothed token frequencies.

    One is added to every count, so that an unseen token is unlikely and not impossible.

    Args:
        counts: integer (vocab_size,), occurrences of each token; 0 for those that are never predicted, such as [PAD].

    Returns:
        float32 (vocab_size,); the exponentials sum to 1.
    """
    smoothed = np.asarray(counts, dtype=np.float64) + 1
    return np.log(smoothed / smoothed.sum()).astype(np.float32)


def pmi_embeddings(
    split: ExampleSource,
    vocab_size: int,
    dim: int,
    *,
    special_ids: tuple[int, ...],
    window: int = 4,
    scale: float = 0.05,
    max_tokens: int = 8_000_000,
    seed: int = 0,
) -> np.ndarray:
    """Returns token embeddings from a truncated SVD of the corpus' positive PMI matrix.

    Rows are U * sqrt(S) (Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization", section 4.2). Tokens
    that have no neighbours above chance, the special ones among them, get normal random vectors of the same spread, so that they differ.

    Args:
        split: the examples; pairs do not cross examples and leave padding and special tokens out.
        vocab_size: rows.
        dim: columns; 0 where there are more than tokens that have neighbours.
        special_ids: ids that are counted neither as tokens nor as neighbours, though they take a place in the distance.
        window: largest distance of two tokens that count as neighbours; a pair at distance d weighs 1/d.
        scale: standard deviation of the values.
        max_tokens: tokens read, padding included, at most, which bounds time and memory; a longer corpus is sampled by examples at
            even distances.
        seed: of the random vectors and of the solver's random start. Signs are fixed.

    Returns:
        float32 (vocab_size, dim). Measured on 2 cores, 3.5 million tokens and dim 128: 2 s of CPU time at a vocabulary of 4,096.
    """
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(0.0, scale, (vocab_size, dim))
    counts = cooccurrences(split, vocab_size, special_ids=special_ids, window=window, max_tokens=max_tokens)
    pmi = positive_pmi(counts)
    placed = np.flatnonzero(pmi.sum(axis=1))
    if len(placed):
        factors = _scaled_left_factors(pmi[placed][:, placed], dim, generator)
        embeddings[placed] = factors * (scale / factors.std())
    return embeddings.astype(np.float32)


def cooccurrences(
    split: ExampleSource, vocab_size: int, *, special_ids: tuple[int, ...], window: int, max_tokens: int
) -> scipy.sparse.csr_array:
    """Counts how often two tokens stand near each other; arguments as in `pmi_embeddings`.

    Returns:
        float64 (vocab_size, vocab_size), symmetric: the sum of 1/distance over the pairs.
    """
    total = scipy.sparse.csr_array((vocab_size, vocab_size), dtype=np.float64)
    for token_ids, counted in _chunks(split, special_ids, max_tokens):
        for distance in range(1, min(window, token_ids.shape[1] - 1) + 1):
            both = counted[:, :-distance] & counted[:, distance:]
            pairs = token_ids[:, :-distance][both], token_ids[:, distance:][both]
            total = total + scipy.sparse.csr_array((np.full(len(pairs[0]), 1.0 / distance), pairs), shape=total.shape)
    return (total + total.T).tocsr()


def positive_pmi(counts: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Returns max(0, log(P(i, j) / (P(i) P(j)))) for every pair of a symmetric matrix of counts; float32, same shape, zeros left out."""
    counts = counts.tocoo()
    marginals = counts.sum(axis=1)
    rows, columns = counts.coords
    values = np.log(counts.data * marginals.sum() / (marginals[rows] * marginals[columns]))
    positive = values > 0
    return scipy.sparse.csr_array((values[positive].astype(np.float32), (rows[positive], columns[positive])), shape=counts.shape)


def _chunks(split: ExampleSource, special_ids: tuple[int, ...], max_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields token ids, int32 (n, length), and which of them count, bool of the same shape."""
    if split.num_examples == 0:
        return
    length = split.token_ids(np.zeros(1, dtype=np.int64)).shape[1]
    example_ids = evenly_spread(split.num_examples, max(1, max_tokens // length))
    size = max(1, _CHUNK_TOKENS // length)
    for first in range(0, len(example_ids), size):
        chosen = example_ids[first : first + size]
        token_ids = split.token_ids(chosen)
        real = np.arange(length) < split.lengths(chosen)[:, 1:]
        yield token_ids, real & ~np.isin(token_ids, special_ids)


def _scaled_left_factors(matrix: scipy.sparse.csr_array, dim: int, generator: np.random.Generator) -> np.ndarray:
    """Returns U * sqrt(S) of the largest singular values, float64 (rows, dim); the largest entry of every column is positive."""
    # Of a symmetric matrix the eigenvectors are the singular vectors, and the eigenvalues the singular values but for their sign.
    size = matrix.shape[0]
    # The many small products of the sparse solver lose by BLAS threads: on 2 busy cores they took 16 s of CPU time instead of 1.2.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        if size <= max(_DENSE_UP_TO, dim):
            values, vectors = np.linalg.eigh(matrix.toarray().astype(np.float64))
        else:
            values, vectors = scipy.sparse.linalg.eigsh(matrix, dim, v0=generator.normal(size=size), rng=generator)
    largest = np.argsort(-np.abs(values), kind="stable")[:dim]
    values, vectors = values[largest], vectors[:, largest]
    peaks = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(largest))]
    factors = np.zeros((size, dim))
    factors[:, : len(largest)] = vectors * np.sqrt(np.abs(values)) * np.sign(peaks)
    return factors
