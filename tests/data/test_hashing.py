import numpy as np
import pytest
from scipy import stats

from electra_keras.data.hashing import hash_counters, uniform


def test_one_counter_gives_the_published_first_output_of_splitmix64():
    # Reference values of the generator seeded with 0 and with 1234567.
    assert int(hash_counters(0)) == 0xE220A8397B1DCDAF
    assert int(hash_counters(1234567)) == 6457827717110365317


def test_scalars_arrays_and_their_mixture_agree():
    ids = np.arange(5)
    together = hash_counters(7, ids[:, None], np.arange(3, dtype=np.uint64))
    assert together.shape == (5, 3)
    assert together.dtype == np.uint64
    for row in range(5):
        for column in range(3):
            assert together[row, column] == hash_counters(7, row, column)


def test_order_and_number_of_counters_matter():
    values = [int(hash_counters(*counters)) for counters in [(1, 2), (2, 1), (1,), (2,), (1, 2, 0), (0, 1, 2)]]
    assert len(set(values)) == len(values)


def test_seeds_beyond_64_bits_are_taken_modulo():
    assert hash_counters(2**64 + 5) == hash_counters(5)


@pytest.mark.parametrize("axis", [0, 1])
def test_neighbouring_counters_give_independent_uniform_numbers(axis):
    draws = uniform(hash_counters(3, np.arange(300)[:, None], np.arange(300)))
    assert draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.001
    first, second = (draws[:-1], draws[1:]) if axis == 0 else (draws[:, :-1], draws[:, 1:])
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def test_every_input_bit_flips_every_output_bit_half_the_time():
    counters = np.arange(1, 2001, dtype=np.uint64)
    before = hash_counters(0, counters)
    for bit in range(64):
        flipped = before ^ hash_counters(0, counters ^ np.uint64(1 << bit))
        shares = (flipped[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(axis=0)
        assert abs(shares - 0.5).max() < 6 * 0.5 / np.sqrt(len(counters))
