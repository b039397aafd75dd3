"""Random bits as a pure function of counters, so that a draw depends on what it is for and never on who asks when.

NumPy's generators are streams: the numbers that an example gets depend on how many were drawn before it, that is on its row, the
batch size and the host. A hash of (seed, epoch, example id, position) has no such memory, and its values are fixed by integer
arithmetic alone, where NumPy does not promise that `Generator.permutation` stays the same between versions.
"""

import numpy as np

_WORD = (1 << 64) - 1
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def hash_counters(*counters: int | np.ndarray) -> np.ndarray:
    """Hashes tuples of integers to 64 random bits each.

    One round of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") per counter. Counters
    broadcast against each other, and costs arise at the broadcast shape so far: put those of few values first.

    Args:
        counters: integers, or integer arrays of broadcastable shapes; taken modulo 2^64.

    Returns:
        uint64 of the broadcast shape.
    """
    state = np.uint64(0)
    # Wrapping around is what is wanted; NumPy warns about it for scalars.
    with np.errstate(over="ignore"):
        for counter in counters:
            state = _mix(state ^ _as_word(counter))
    return state


def uniform(bits: np.ndarray) -> np.ndarray:
    """Returns float64 in [0, 1), evenly spaced by 2^-53, from 64 random bits each."""
    return (bits >> np.uint64(11)) * 2.0**-53


def _as_word(counter: int | np.ndarray) -> np.ndarray:
    if isinstance(counter, int):
        return np.uint64(counter & _WORD)
    return np.asarray(counter).astype(np.uint64)


def _mix(word: np.ndarray) -> np.ndarray:
    word = word + _STEP
    word = (word ^ (word >> np.uint64(30))) * _FACTORS[0]
    word = (word ^ (word >> np.uint64(27))) * _FACTORS[1]
    return word ^ (word >> np.uint64(31))
