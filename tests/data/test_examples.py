import numpy as np
import pytest

from electra_keras.data.examples import evenly_spread


@pytest.mark.parametrize(
    ("num_examples", "count", "expected"),
    [(10, 5, [0, 2, 4, 6, 8]), (10, 3, [0, 3, 6]), (3, 3, [0, 1, 2]), (2, 9, [0, 1]), (7, 1, [0]), (0, 4, [])],
)
def test_examples_lie_at_even_distances(num_examples, count, expected):
    assert evenly_spread(num_examples, count).tolist() == expected


def test_distances_differ_by_one_at_most():
    chosen = evenly_spread(1000, 77)
    assert chosen.dtype == np.int64
    assert set(np.diff(chosen)) == {12, 13}
