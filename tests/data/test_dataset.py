import itertools
import types

import numpy as np
import pytest
from scipy import stats

from electra_keras.config import MaskingRates
from electra_keras.data.dataset import num_validation_batches, training_batches, validation_batches
from electra_keras.errors import CorpusError

TOKENIZER = types.SimpleNamespace(pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4)
LENGTH = 12


class NumberedExamples:
    """Examples [CLS] w n n ... n [SEP] where n, from 10 on, is the example's number: it shows who is who, however masked."""

    def __init__(self, num_examples):
        self.num_examples = num_examples

    def token_ids(self, indices):
        rows = np.repeat(10 + np.asarray(indices, np.int32)[:, None], LENGTH, axis=1)
        rows[:, 0], rows[:, -1] = TOKENIZER.cls_id, TOKENIZER.sep_id
        return rows

    def lengths(self, indices):
        return np.full((len(indices), 2), LENGTH, np.int32)


def numbers(batch):
    """The numbers of a batch's examples; -1 for an empty row."""
    return np.where(batch[0]["padding_mask"].any(axis=1), batch[0]["token_ids"].max(axis=1) - 10, -1)


def take(dataset, count):
    return list(itertools.islice(iter(dataset), count))


def train(num_examples=25, batch_size=4, seed=0, mask_prob=0.3, **arguments):
    return training_batches(
        NumberedExamples(num_examples), TOKENIZER, batch_size=batch_size, rates=MaskingRates(mask_prob), seed=seed, **arguments
    )


def validate(num_examples, batch_size, at_most, seed=0):
    return validation_batches(
        NumberedExamples(num_examples), TOKENIZER, batch_size=batch_size, rates=MaskingRates(0.3), seed=seed, num_examples=at_most
    )


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others, strict=True):
        for name in one[0]:
            np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_every_epoch_holds_every_example_once_and_batches_join_epochs():
    batches = take(train(num_examples=25, batch_size=4), 25)
    assert {numbers(batch).shape for batch in batches} == {(4,)}
    epochs = np.concatenate([numbers(batch) for batch in batches]).reshape(4, 25)
    for epoch in epochs:
        assert sorted(epoch) == list(range(25))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_masks_change_from_epoch_to_epoch_also_within_a_joining_batch():
    batches = take(train(num_examples=25, batch_size=4), 25)
    positions = {}
    for place, (x, row) in enumerate((batch[0], row) for batch in batches for row in range(4)):
        positions[place // 25, int(x["token_ids"][row].max() - 10)] = tuple(x["mask_positions"][row])
    changed = [positions[epoch, number] != positions[epoch + 1, number] for epoch in range(3) for number in range(25)]
    # Two draws of 3 positions among 10 are the same once in 120.
    assert sum(changed) > 70


def test_orders_are_uniform_and_independent_over_epochs():
    places = np.concatenate([numbers(batch) for batch in take(train(num_examples=10, batch_size=10), 1500)]).reshape(1500, 10)
    where = np.argsort(places, axis=1)
    for number in range(10):
        assert stats.chisquare(np.bincount(where[:, number], minlength=10)).pvalue > 1e-4
    from_to = np.bincount(where[:-1, 0] * 10 + where[1:, 0], minlength=100)
    assert stats.chisquare(from_to).pvalue > 1e-4


def test_seeds_give_other_orders_and_no_shifted_ones():
    orders = {seed: [tuple(numbers(batch)) for batch in take(train(batch_size=25, seed=seed), 4)] for seed in range(3)}
    assert len({order for epochs in orders.values() for order in epochs}) == 12


@pytest.mark.parametrize("start_step", [0, 1, 6, 7, 100])
def test_resuming_gives_the_batches_of_the_uninterrupted_run(start_step):
    uninterrupted = take(train(), start_step + 9)
    assert_same(take(train(start_step=start_step), 9), uninterrupted[start_step:])


def test_iterating_again_starts_again():
    dataset = train()
    assert_same(take(dataset, 5), take(dataset, 5))


def test_far_steps_cost_no_more_than_near_ones():
    (batch,) = take(train(start_step=10**12), 1)
    assert numbers(batch).shape == (4,)


def test_masks_do_not_depend_on_the_batch_size():
    rows = {}
    for batch_size in (5, 7):
        for x, _, _ in take(train(num_examples=35, batch_size=batch_size), 35 // batch_size):
            for token_ids in x["token_ids"]:
                rows.setdefault(int(token_ids.max()), set()).add(tuple(token_ids))
    assert len(rows) == 35
    assert all(len(variants) == 1 for variants in rows.values())


def test_a_corpus_smaller_than_a_batch_is_refused():
    with pytest.raises(CorpusError, match=r"3 examples, less than one batch of 4.*training\.batch_size"):
        train(num_examples=3)


def test_unknown_words_are_masked_too():
    split = NumberedExamples(4)
    split.token_ids = lambda indices: np.full((len(indices), LENGTH), TOKENIZER.unk_id, np.int32)
    (batch,) = take(training_batches(split, TOKENIZER, batch_size=4, rates=MaskingRates(0.3, 0.0), seed=0), 1)
    assert (batch[0]["token_ids"] == TOKENIZER.mask_id).sum() == batch[2].sum() > 0


def test_validation_is_one_pass_of_equal_shapes_filled_with_empty_rows():
    batches = list(validate(num_examples=7, batch_size=3, at_most=100))
    assert [numbers(batch).tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, -1, -1]]
    x, y, sample_weight = batches[-1]
    assert x["token_ids"].shape == (3, LENGTH)
    assert x["padding_mask"].sum(axis=1).tolist() == [LENGTH, 0, 0]
    assert sample_weight.sum(axis=1).tolist() == [3, 0, 0]
    assert not (x["token_ids"][1:].any() or x["segment_ids"][1:].any() or x["mask_positions"][1:].any() or y[1:].any())


@pytest.mark.parametrize(("batch_size", "at_most", "expected"), [(3, 100, 3), (7, 100, 1), (3, 6, 2), (3, 1, 1)])
def test_number_of_validation_batches(batch_size, at_most, expected):
    assert num_validation_batches(NumberedExamples(7), batch_size=batch_size, num_examples=at_most) == expected
    assert len(list(validate(7, batch_size, at_most))) == expected


def test_validation_spreads_a_part_over_the_split():
    (batch,) = list(validate(num_examples=20, batch_size=4, at_most=4))
    assert numbers(batch).tolist() == [0, 5, 10, 15]


def test_validation_is_the_same_every_time_and_its_seed_is_its_own():
    dataset = validate(num_examples=20, batch_size=4, at_most=20)
    first = list(dataset)
    assert_same(list(dataset), first)
    other = list(validate(num_examples=20, batch_size=4, at_most=20, seed=1))
    assert [numbers(batch).tolist() for batch in other] == [numbers(batch).tolist() for batch in first]
    assert any((one[0]["mask_positions"] != two[0]["mask_positions"]).any() for one, two in zip(first, other, strict=True))


def test_validation_masks_do_not_depend_on_the_batch_size():
    small, large = list(validate(12, 3, 12)), list(validate(12, 12, 12))
    np.testing.assert_array_equal(np.concatenate([batch[0]["token_ids"] for batch in small]), large[0][0]["token_ids"])


def test_empty_validation_data_is_refused():
    with pytest.raises(CorpusError, match="validation_fraction"):
        validate(0, 4, 10)
