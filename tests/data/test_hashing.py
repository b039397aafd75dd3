import math

import numpy as np
import pytest
from scipy import stats

from electra_keras.data.hashing import hash_counters, shuffle_places, uniform


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


def permutation(size, key):
    return shuffle_places(np.arange(size), size, np.full(size, hash_counters(key)))


@pytest.mark.parametrize("size", [*range(1, 40), 100, 1009, 65536, 65537])
def test_shuffled_places_are_a_permutation(size):
    assert np.array_equal(np.sort(permutation(size, 5)), np.arange(size))


def test_shuffling_leaves_its_input_alone_and_takes_each_place_by_itself():
    places = np.array([3, 3, 7, 0])
    keys = hash_counters(np.array([1, 2, 1, 1]))
    shuffled = shuffle_places(places, 11, keys)
    assert places.tolist() == [3, 3, 7, 0]
    assert shuffled.tolist() == [permutation(11, 1)[3], permutation(11, 2)[3], permutation(11, 1)[7], permutation(11, 1)[0]]


@pytest.mark.parametrize("size", [3, 4, 5])
def test_all_permutations_are_equally_likely(size):
    keys = hash_counters(np.arange(100 * math.factorial(size)))
    images = np.stack([shuffle_places(np.full(len(keys), place), size, keys) for place in range(size)], axis=1)
    _, counts = np.unique(images, axis=0, return_counts=True)
    assert len(counts) == math.factorial(size)
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("size", [5, 7, 10, 12, 30])
def test_all_pairs_of_places_are_equally_likely(size):
    keys = hash_counters(np.arange(200 * size * size))
    first, last = (shuffle_places(np.full(len(keys), place), size, keys) for place in (0, size - 1))
    counts = np.bincount(first * size + last, minlength=size * size)
    assert np.count_nonzero(counts) == size * (size - 1)
    assert stats.chisquare(counts[counts > 0]).pvalue > 0.001


def test_neighbours_part_at_every_distance_equally():
    keys = hash_counters(np.arange(100_000))
    first, second = (shuffle_places(np.full(len(keys), place), 1000, keys) for place in (0, 1))
    assert stats.chisquare(np.bincount(first, minlength=1000)).pvalue > 0.001
    assert stats.chisquare(np.bincount((second - first) % 1000, minlength=1000)[1:]).pvalue > 0.001


def test_permutations_have_as_many_fixed_points_as_random_ones():
    fixed = [int((permutation(300, key) == np.arange(300)).sum()) for key in range(600)]
    # Poisson with mean 1: standard error of the mean 0.041.
    assert abs(np.mean(fixed) - 1) < 0.15


def test_huge_ranges_cost_no_more():
    size = 10**15
    shuffled = shuffle_places(np.arange(1000), size, np.full(1000, hash_counters(1)))
    assert len(set(shuffled.tolist())) == 1000
    assert stats.kstest(shuffled / size, "uniform").pvalue > 0.001
