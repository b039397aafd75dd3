"""Operations on masked positions that objectives share: prediction losses and the corrupted input."""

from keras import ops

from electra_keras.modeling.kernels.cross_entropy import is_most_likely, token_losses
from electra_keras.modeling.kernels.sampling import draw_tokens
from electra_keras.objectives.protocol import Batch, Tensor


def prediction_sums(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sums the cross-entropy and the hits of predictions at masked positions.

    Args:
        logits: float (batch, masked, vocab), before softmax.
        batch: gives the original ids and which positions are real.

    Returns:
        float32 scalars: the summed negative log-likelihood in nats, and the number of arg-max hits.
    """
    losses = token_losses(logits, batch.original_ids)
    hits = ops.cast(is_most_likely(ops.stop_gradient(logits), batch.original_ids), "float32")
    return ops.sum(losses * batch.mask_weights), ops.sum(hits * batch.mask_weights)


def sample_replacements(logits: Tensor, temperature: float, batch: Batch) -> Tensor:
    """Draws a replacement for every masked position with the random numbers that came with the batch.

    Because the numbers belong to the data, the same example is corrupted in the same way on every backend, by every host,
    and after a resume.

    Args:
        logits: float (batch, masked, vocab), before softmax.
        temperature: divides the logits; > 0.
        batch: its sample_uniforms are used.

    Returns:
        int32 (batch, masked).
    """
    return draw_tokens(logits, batch.sample_uniforms, temperature)


def corrupt(batch: Batch, sampled_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Writes sampled tokens into the masked positions.

    A sample that happens to be the original token is not a replacement (paper, section 2). Predictions of weight 0 carry
    position 0 and must never be written back, or every padded row would lose its [CLS].

    Args:
        batch: the masked batch.
        sampled_ids: int32 (batch, masked).

    Returns:
        The discriminator's token ids, int32 (batch, length), and its labels, float32 (batch, length), 1 at replaced tokens.
    """
    replaced = ops.cast(ops.not_equal(sampled_ids, batch.original_ids), "int32")
    token_ids = scatter(batch.token_ids, batch.mask_positions, batch.mask_weights, sampled_ids)
    labels = scatter(ops.zeros_like(batch.token_ids), batch.mask_positions, batch.mask_weights, replaced)
    return token_ids, ops.cast(labels, "float32")


def scatter(rows: Tensor, positions: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Replaces rows[b, positions[b, m]] by values[b, m] wherever weights[b, m] is not 0.

    Args:
        rows: int32 (batch, length).
        positions: int32 (batch, masked), in [0, length).
        weights: float (batch, masked).
        values: int32 (batch, masked).

    Returns:
        int32 (batch, length).
    """
    batch_size, length = ops.shape(rows)[0], ops.shape(rows)[1]
    # Entries of weight 0 are aimed at one extra cell behind the last row, which is cut off again.
    flat = ops.concatenate([ops.reshape(rows, (-1,)), ops.zeros((1,), dtype=rows.dtype)])
    row_starts = ops.expand_dims(ops.arange(batch_size, dtype="int32") * length, 1)
    targets = ops.where(ops.cast(weights, "bool"), row_starts + ops.cast(positions, "int32"), batch_size * length)
    updates = ops.reshape(ops.cast(values, rows.dtype), (-1,))
    flat = ops.scatter_update(flat, ops.reshape(targets, (-1, 1)), updates)
    return ops.reshape(flat[:-1], (batch_size, length))
