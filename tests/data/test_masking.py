import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from electra_keras.config import MaskingRates
from electra_keras.data.masking import mask_batch, max_predictions

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL_IDS = (PAD, CLS, SEP, MASK)


def make_examples(num_examples, length=32, seed=0):
    """Examples [CLS] A [SEP] B [SEP] of random sizes; words have ids from 5 on."""
    generator = np.random.default_rng(seed)
    token_ids = np.full((num_examples, length), PAD, np.int32)
    lengths = np.zeros((num_examples, 2), np.int32)
    for row in range(num_examples):
        total = generator.integers(6, length + 1)
        first = generator.integers(3, total - 1)
        token_ids[row, :total] = generator.integers(5, 15, total)
        token_ids[row, 0] = CLS
        token_ids[row, [first - 1, total - 1]] = SEP
        lengths[row] = first, total
    return token_ids, lengths


def mask(token_ids, lengths, example_ids=None, epochs=0, seed=1, mask_prob=0.15, keep_prob=0.15):
    example_ids = np.arange(len(token_ids)) if example_ids is None else example_ids
    rates = MaskingRates(mask_prob, keep_prob)
    return mask_batch(token_ids, lengths, example_ids, epochs, rates=rates, seed=seed, special_ids=SPECIAL_IDS, mask_id=MASK)


def full_examples(num_examples, num_words):
    """Examples [CLS] words [SEP] without padding."""
    token_ids = np.full((num_examples, num_words + 2), 9, np.int32)
    token_ids[:, 0], token_ids[:, -1] = CLS, SEP
    return token_ids, np.full((num_examples, 2), num_words + 2, np.int32)


@pytest.mark.parametrize(
    ("sequence_length", "mask_prob", "expected"),
    # The first three are the original's: small 128, base and large 512 at 15%, large at 25%.
    [(128, 0.15, 19), (512, 0.15, 79), (512, 0.25, 130), (64, 0.3, 19), (8, 0.01, 1), (10, 0.999, 10)],
)
def test_max_predictions(sequence_length, mask_prob, expected):
    assert max_predictions(sequence_length, mask_prob) == expected


def test_shapes_and_dtypes():
    (x, y, sample_weight) = mask(*make_examples(3))
    assert {name: (value.shape, value.dtype.name) for name, value in x.items()} == {
        "token_ids": ((3, 32), "int32"),
        "segment_ids": ((3, 32), "int32"),
        "padding_mask": ((3, 32), "int32"),
        "mask_positions": ((3, 4), "int32"),
        "sample_uniforms": ((3, 4), "float32"),
    }
    assert (y.shape, y.dtype.name) == ((3, 4), "int32")
    assert (sample_weight.shape, sample_weight.dtype.name) == ((3, 4), "float32")


def test_the_replacements_random_numbers_are_uniform_and_the_examples_own():
    examples = make_examples(2_000)
    (x, _, sample_weight), (again, _, _) = mask(*examples), mask(*examples)
    uniforms = x["sample_uniforms"][sample_weight > 0]
    assert 0 <= uniforms.min() < uniforms.max() < 1
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(x["sample_uniforms"], again["sample_uniforms"])
    # Which tokens are kept is another draw from the same counters; it must say nothing about the replacement.
    kept = (x["token_ids"][np.arange(2_000)[:, None], x["mask_positions"]] != MASK)[sample_weight > 0]
    assert abs(np.corrcoef(kept, uniforms)[0, 1]) < 0.05


def test_segments_and_padding_of_a_written_out_example():
    token_ids = np.array([[CLS, 7, 8, SEP, 9, SEP, PAD, PAD], [CLS, 7, 8, 9, SEP, PAD, PAD, PAD]])
    x, _, _ = mask(token_ids, np.array([[4, 6], [5, 5]]))
    assert x["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0] * 8]
    assert x["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]


def test_predictions_restore_the_original_and_touch_nothing_else():
    token_ids, lengths = make_examples(200)
    x, y, sample_weight = mask(token_ids, lengths)
    restored = x["token_ids"].copy()
    for row in range(200):
        count = int(sample_weight[row].sum())
        positions = x["mask_positions"][row, :count]
        assert sample_weight[row].tolist() == [1] * count + [0] * (4 - count)
        assert (np.diff(positions) > 0).all()
        assert not np.isin(token_ids[row, positions], SPECIAL_IDS).any()
        assert y[row, :count].tolist() == token_ids[row, positions].tolist()
        assert np.isin(x["token_ids"][row, positions], (MASK, *y[row])).all()
        assert x["mask_positions"][row, count:].tolist() == y[row, count:].tolist() == [0] * (4 - count)
        restored[row, positions] = y[row, :count]
    np.testing.assert_array_equal(restored, token_ids)


def test_number_of_predictions_follows_the_eligible_tokens():
    token_ids, lengths = make_examples(300)
    _, _, sample_weight = mask(token_ids, lengths, mask_prob=0.15)
    for row in range(300):
        words = int((token_ids[row] >= 5).sum())
        assert sample_weight[row].sum() == max(1, min(4, round(0.15 * words)))


def test_unknown_words_can_be_masked_and_literal_mask_tokens_cannot():
    token_ids = np.array([[CLS, UNK, MASK, SEP]])
    x, y, sample_weight = mask(token_ids, np.array([[4, 4]]), keep_prob=0)
    assert x["mask_positions"].tolist() == [[1]]
    assert y.tolist() == [[UNK]]
    assert x["token_ids"].tolist() == [[CLS, MASK, MASK, SEP]]
    assert sample_weight.tolist() == [[1]]


def test_rows_without_eligible_tokens_predict_nothing():
    token_ids = np.array([[CLS, SEP, PAD, PAD], [PAD] * 4])
    x, y, sample_weight = mask(token_ids, np.array([[2, 2], [0, 0]]))
    np.testing.assert_array_equal(x["token_ids"], token_ids)
    assert x["padding_mask"].tolist() == [[1, 1, 0, 0], [0] * 4]
    assert not (x["mask_positions"].any() or y.any() or sample_weight.any() or x["segment_ids"].any())


def test_every_eligible_token_can_be_masked_at_once():
    token_ids, lengths = full_examples(5, 6)
    x, _, sample_weight = mask(token_ids, lengths, mask_prob=0.99, keep_prob=0)
    assert x["token_ids"].tolist() == [[CLS, *[MASK] * 6, SEP]] * 5
    assert sample_weight.sum() == 30


@pytest.mark.parametrize(("keep_prob", "masked"), [(0.0, 1.0), (1.0, 0.0)])
def test_keep_prob_at_its_ends(keep_prob, masked):
    token_ids, lengths = make_examples(50)
    x, _, sample_weight = mask(token_ids, lengths, keep_prob=keep_prob)
    assert (x["token_ids"] == MASK).sum() == masked * sample_weight.sum()


def test_inputs_stay_as_they_were():
    token_ids, lengths = make_examples(20)
    before = token_ids.copy()
    mask(token_ids, lengths)
    np.testing.assert_array_equal(token_ids, before)


def test_all_positions_are_equally_likely():
    num_examples, num_words = 4000, 20
    x, _, sample_weight = mask(*full_examples(num_examples, num_words))
    counts = np.bincount(x["mask_positions"][sample_weight > 0], minlength=num_words + 2)
    assert counts[0] == counts[-1] == 0
    assert counts.sum() == 3 * num_examples
    # Without replacement the counts vary by (1 - 3/20) of what independent draws would: the test is strict enough.
    assert stats.chisquare(counts[1:-1]).pvalue > 0.001


def test_all_pairs_of_positions_are_equally_likely():
    x, _, _ = mask(*full_examples(20000, 6), mask_prob=2 / 6)
    first, second = x["mask_positions"].T
    counts = np.bincount(first * 10 + second)
    assert np.count_nonzero(counts) == 15
    assert stats.chisquare(counts[counts > 0]).pvalue > 0.001


def test_kept_share_matches_keep_prob_at_every_position():
    x, _, sample_weight = mask(*full_examples(8000, 10), mask_prob=0.3, keep_prob=0.15)
    assert sample_weight.all()
    kept = np.take_along_axis(x["token_ids"], x["mask_positions"], axis=1) != MASK
    for position in range(1, 11):
        here = kept[x["mask_positions"] == position]
        assert stats.binomtest(int(here.sum()), len(here), 0.15).pvalue > 0.0005


@pytest.mark.parametrize("change", [{"epochs": 1}, {"seed": 2}, {"example_ids": np.arange(4000) + 4000}])
def test_other_epochs_seeds_and_examples_give_independent_masks(change):
    token_ids, lengths = full_examples(4000, 20)
    masks = []
    for arguments in ({}, change):
        x, _, _ = mask(token_ids, lengths, **arguments)
        chosen = np.zeros(token_ids.shape, bool)
        np.put_along_axis(chosen, x["mask_positions"], True, axis=1)
        masks.append(chosen[:, 1:-1])
    # Two independent draws of 3 among 20 share a hypergeometric number.
    shared = np.bincount((masks[0] & masks[1]).sum(axis=1), minlength=4)
    expected = stats.hypergeom(20, 3, 3).pmf(range(4)) * 4000
    assert stats.chisquare(np.r_[shared[:2], shared[2:].sum()], np.r_[expected[:2], expected[2:].sum()]).pvalue > 0.001


def assert_same_rows(one, other):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(one[2], other[2])


def rows_of(batch, rows):
    x, y, sample_weight = batch
    return {name: value[rows] for name, value in x.items()}, y[rows], sample_weight[rows]


def test_masks_depend_neither_on_the_row_nor_on_the_batch():
    token_ids, lengths = make_examples(40)
    example_ids = np.arange(40) * 7 + 3
    whole = mask(token_ids, lengths, example_ids, epochs=2)
    rows = np.random.default_rng(5).permutation(40)[:11]
    part = mask(token_ids[rows], lengths[rows], example_ids[rows], epochs=2)
    assert_same_rows(rows_of(whole, rows), part)


def test_a_batch_may_join_two_epochs():
    token_ids, lengths = make_examples(10)
    joined = mask(token_ids, lengths, epochs=np.repeat([3, 4], 5))
    assert_same_rows(rows_of(joined, slice(0, 5)), rows_of(mask(token_ids, lengths, epochs=3), slice(0, 5)))
    assert_same_rows(rows_of(joined, slice(5, 10)), rows_of(mask(token_ids, lengths, epochs=4), slice(5, 10)))


def test_masks_stay_the_same_between_versions():
    # Recorded when the scheme was settled: a change would make resumed runs differ from uninterrupted ones.
    x, _, _ = mask(*full_examples(3, 20), epochs=5, seed=42)
    assert x["mask_positions"].tolist() == [[9, 10, 12], [4, 19, 20], [2, 4, 16]]


def test_nothing_here_loads_a_backend():
    modules = ("data.masking", "data.dataset", "data.windows", "data.statistics", "metrics")
    code = "; ".join(f"import electra_keras.{name}" for name in modules)
    code += "; import sys; sys.exit(', '.join({'jax', 'tensorflow', 'torch', 'keras', 'grain'} & set(sys.modules)) or 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
