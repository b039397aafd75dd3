"""Which tokens the generator has to predict: a pure function of (seed, epoch, example id).

The masks of an example change from epoch to epoch and are otherwise the same whatever its row, the batch size or the host. Whole
batches are computed at once, without a loop over rows.

Two deviations from the original (google-research/electra, pretrain/pretrain_helpers.py): it draws positions with replacement, so
that some count twice; and it takes the number of masks from all tokens, [CLS] and [SEP] included, where we take it from those
that can be masked. As there, [UNK] can be masked, and rounding goes to the even neighbour.
"""

import numpy as np

from electra_keras.config import MaskingRates
from electra_keras.data.hashing import hash_counters, uniform, uniform32

# First counters of the independent draws; 3 is the order's, in dataset.py.
_POSITION_DRAW, _KEEP_DRAW, _REPLACEMENT_DRAW = 1, 2, 4
# The low bits of a position's random key hold the position itself: sorting keys sorts positions, and no two keys are equal.
_POSITION_BITS = 20

Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


def max_predictions(sequence_length: int, mask_prob: float) -> int:
    """Returns how many predictions an example has room for, as in the original (configure_pretraining.py).

    Args:
        sequence_length: tokens an example, special tokens included.
        mask_prob: share of the eligible tokens that are predicted, in (0, 1).

    Returns:
        At least 1 and at most sequence_length.
    """
    return min(sequence_length, max(1, int((mask_prob + 0.005) * sequence_length)))


def mask_batch(
    token_ids: np.ndarray,
    lengths: np.ndarray,
    example_ids: np.ndarray,
    epochs: int | np.ndarray,
    *,
    rates: MaskingRates,
    seed: int,
    special_ids: tuple[int, ...],
    mask_id: int,
) -> Batch:
    """Masks a batch of examples, in KerasHub's masked-LM convention.

    Of n eligible tokens max(1, round(mask_prob * n)) are predicted, as far as there is room (`max_predictions`); they are drawn
    without replacement. Each then keeps its token in the input with chance keep_prob and becomes [MASK] otherwise.

    Args:
        token_ids: integer (batch, length), the original tokens, padded.
        lengths: integer (batch, 2): tokens of segment A with [CLS] and its [SEP], and tokens altogether; (0, 0) makes a row that
            counts nowhere.
        example_ids: integer (batch,), unique in the split.
        epochs: integer, or integer (batch,) where a batch joins two epochs; >= 0.
        rates: how much is masked, and how much of that keeps its token.
        seed: >= 0.
        special_ids: ids that are never masked.
        mask_id: id of [MASK].

    Returns:
        x: int32 token_ids, segment_ids and padding_mask (1 = real), each (batch, length); int32 mask_positions (batch, predictions),
            ascending, then padded with 0; float32 sample_uniforms (batch, predictions) in [0, 1), from which the model draws the
            replacements, so that they too are the same on every backend, by every host and after a resume.
        y: int32 (batch, predictions), the original ids at mask_positions; 0 where padded.
        sample_weight: float32 (batch, predictions), 1 = a prediction, 0 = padding. Mind it before anything is written back to
            mask_positions, or the padding's 0 hits [CLS].
    """
    length = token_ids.shape[1]
    order = np.arange(length, dtype=np.int32)
    real = order < lengths[:, 1:]
    row_counters = (seed, np.reshape(epochs, (-1, 1)), example_ids[:, None])

    eligible = real & ~np.isin(token_ids, special_ids)
    counts = _prediction_counts(eligible, rates.mask_prob)
    positions = _draw_positions(eligible, counts, row_counters, max_predictions(length, rates.mask_prob))
    predicted = np.arange(positions.shape[1]) < counts[:, None]
    originals = np.where(predicted, np.take_along_axis(token_ids, positions, axis=1), 0)

    kept = uniform(hash_counters(_KEEP_DRAW, *row_counters, positions)) < rates.keep_prob
    rows, columns = np.nonzero(predicted & ~kept)
    masked_ids = token_ids.astype(np.int32)
    masked_ids[rows, positions[rows, columns]] = mask_id

    x = {
        "token_ids": masked_ids,
        "segment_ids": (real & (order >= lengths[:, :1])).astype(np.int32),
        "padding_mask": real.astype(np.int32),
        "mask_positions": positions.astype(np.int32),
        "sample_uniforms": uniform32(hash_counters(_REPLACEMENT_DRAW, *row_counters, positions)),
    }
    return x, originals.astype(np.int32), predicted.astype(np.float32)


def _prediction_counts(eligible: np.ndarray, mask_prob: float) -> np.ndarray:
    """Returns int64 (batch,): predictions a row, 0 only where nothing is eligible."""
    available = eligible.sum(axis=1)
    wanted = np.rint(mask_prob * available).astype(np.int64)
    room = max_predictions(eligible.shape[1], mask_prob)
    return np.minimum(np.clip(wanted, 1, room), available)


def _draw_positions(eligible: np.ndarray, counts: np.ndarray, row_counters: tuple, room: int) -> np.ndarray:
    """Returns int64 (batch, room): the eligible positions with the smallest random keys, ascending, padded with 0."""
    length = eligible.shape[1]
    positions = np.arange(length, dtype=np.uint64)
    low_bits = np.uint64((1 << _POSITION_BITS) - 1)
    keys = hash_counters(_POSITION_DRAW, *row_counters, positions)
    # Without their highest bit, keys of eligible positions lie below those of all others.
    keys = np.where(eligible, keys >> np.uint64(1), keys | np.uint64(1 << 63))
    smallest = np.sort((keys & ~low_bits) | positions, axis=1)[:, :room]
    chosen = (smallest & low_bits).astype(np.int64)
    beyond = np.arange(room) >= counts[:, None]
    chosen[beyond] = length
    chosen.sort(axis=1)
    chosen[beyond] = 0
    return chosen
