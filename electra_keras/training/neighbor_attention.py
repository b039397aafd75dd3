"""Starting values with which the first layer's heads look at neighbouring tokens from the first step on.

A randomly initialised encoder spends its first thousands of updates on finding out that nearby tokens matter. Here word
vectors leave their last dimensions to the positions, which start as sinusoids; the first layer's query is the same
sinusoid rotated by an offset, so that query times key is largest where the key stands at that offset. Only starting values:
the architecture stays ELECTRA's, and training is free to unlearn them.
"""

import math

import numpy as np

from electra_keras.errors import ConfigError

# Dimensions given to positions: 16 frequencies, enough for offsets below the sequence lengths of small models to differ.
POSITION_DIM = 32
NUM_FREQUENCIES = POSITION_DIM // 2
# The heads' offsets, nearest first; heads beyond these keep their random start.
OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)
# Scale of the sinusoids in query and key: sharp enough to single out one neighbour after the LayerNorm.
SHARPNESS = 1.05
# What stays of the random start in heads that are set, so that they can still tell tokens apart.
RANDOM_SHARE = 0.1


def angular_frequencies() -> np.ndarray:
    """Returns float64 (NUM_FREQUENCIES,), evenly spread over (0, pi) radians a position."""
    return np.pi * (np.arange(NUM_FREQUENCIES) + 0.5) / NUM_FREQUENCIES


def check_width(width: int, what: str) -> None:
    """Raises ConfigError when a layer is too narrow to give POSITION_DIM dimensions to positions."""
    if width < 2 * POSITION_DIM:
        raise ConfigError(
            f"model.attention_initialization neighbors needs {what} of at least {2 * POSITION_DIM}, not {width}; "
            "use random or a wider model."
        )


def check_head_width(head_dim: int) -> None:
    """Raises ConfigError when a head has no room for a sine and a cosine."""
    if head_dim < 2:
        raise ConfigError(
            f"model.attention_initialization neighbors needs heads of at least 2 dimensions, not {head_dim}; use random or fewer heads."
        )


def position_embeddings(max_positions: int, embedding_dim: int, scale: float) -> np.ndarray:
    """Returns float32 (max_positions, embedding_dim): sinusoids in the last POSITION_DIM dimensions, 0 elsewhere.

    Args:
        max_positions: rows.
        embedding_dim: columns.
        scale: root mean square of the sinusoids, that of the word vectors.
    """
    check_width(embedding_dim, "embedding_dim")
    angles = np.arange(max_positions)[:, None] * angular_frequencies()
    table = np.zeros((max_positions, embedding_dim), np.float32)
    table[:, -POSITION_DIM:] = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * math.sqrt(2.0) * scale
    return table


def projection_kernel(kernel: np.ndarray) -> np.ndarray:
    """Returns a projection of the embeddings that passes positions through and mixes word dimensions among themselves.

    Args:
        kernel: float32 (embedding_dim, hidden_dim), random, of which the word part is kept at the same output scale.
    """
    inputs, outputs = kernel.shape
    check_width(outputs, "hidden_dim")
    words = inputs - POSITION_DIM
    result = np.zeros_like(kernel)
    result[:words, :-POSITION_DIM] = kernel[:words, :-POSITION_DIM] * math.sqrt(inputs / words)
    result[words:, -POSITION_DIM:] = np.eye(POSITION_DIM, dtype=kernel.dtype)
    return result


def query_key_value_kernel(kernel: np.ndarray, num_heads: int) -> np.ndarray:
    """Returns a first layer's kernel whose heads attend to OFFSETS.

    With key_j = p_j and query_i = p_(i+offset), their product is a sum of cosines of frequency * (i + offset - j), largest at
    j = i + offset. Rotating p_i by the offset is linear: cos(a + b) = cos a cos b - sin a sin b, and likewise for the sine.

    Args:
        kernel: float32 (hidden_dim, 3 * hidden_dim), random; columns are those of all queries, all keys, all values.
        num_heads: attention heads.
    """
    hidden_dim = kernel.shape[0]
    check_width(hidden_dim, "hidden_dim")
    head_dim = hidden_dim // num_heads
    check_head_width(head_dim)
    result = kernel.copy()
    count = min(NUM_FREQUENCIES, head_dim // 2)
    chosen = np.arange(count) * (NUM_FREQUENCIES // count)
    cosine_rows = hidden_dim - POSITION_DIM + chosen
    sine_rows = cosine_rows + NUM_FREQUENCIES
    # Attention divides scores by sqrt(head_dim), which is made up for in query and key alike.
    scale = SHARPNESS * (head_dim / POSITION_DIM) ** 0.25
    for head, offset in enumerate(OFFSETS[:num_heads]):
        query = slice(head * head_dim, (head + 1) * head_dim)
        key = slice(hidden_dim + query.start, hidden_dim + query.stop)
        result[:, query] *= RANDOM_SHARE
        result[:, key] *= RANDOM_SHARE
        angles = angular_frequencies()[chosen] * offset
        cosine_columns, sine_columns = query.start + np.arange(count), query.start + count + np.arange(count)
        result[cosine_rows, hidden_dim + cosine_columns] = scale
        result[sine_rows, hidden_dim + sine_columns] = scale
        result[cosine_rows, cosine_columns] = scale * np.cos(angles)
        result[sine_rows, cosine_columns] = -scale * np.sin(angles)
        result[sine_rows, sine_columns] = scale * np.cos(angles)
        result[cosine_rows, sine_columns] = scale * np.sin(angles)
    return result
