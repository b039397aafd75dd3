"""Dropout with cheap random numbers.

JAX's own generator (Threefry) took an eighth of a training step on two CPU cores, more than any matrix product: it makes 32 bits of
cryptographic ancestry for a yes or no. Here a unit's fate is a hash of its index and of two seed words; XLA fuses it into the
multiplication itself, so that no array of random numbers is ever written.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

# MurmurHash3's factors (Appleby), and 2**32 over the golden ratio.
_FACTORS = (0x85EBCA6B, 0xC2B2AE35)
_GOLDEN = 0x9E3779B1


@keras.saving.register_keras_serializable(package="electra_keras")
class Dropout(keras.layers.Dropout):
    """Keras' Dropout, with its seed state, by the backend's fastest form; it keeps its input's dtype under every policy."""

    def __init__(self, rate, **kwargs):
        super().__init__(rate, autocast=False, **kwargs)

    def call(self, inputs, training=False):
        """Returns the inputs, in training with units zeroed and the rest scaled up; of inputs' shape and dtype."""
        if not training or self.rate == 0:
            return inputs
        match keras.backend.backend():
            case "jax" | "tensorflow":
                return drop_by_hash(inputs, self.rate, self.seed_generator.next())
            case "torch":
                return _drop_in_torch(inputs, self.rate, self.seed_generator)
            case _:
                return super().call(inputs, training=training)


def drop_by_hash(inputs, rate, seed):
    """Zeroes every unit with chance `rate` and scales the others by 1 / (1 - rate).

    MurmurHash3's finalizer, with a second seed word between its steps, so that two calls never see shifted copies of one stream. The same
    units are dropped on every backend and device, and no number is read back from a device.

    Args:
        inputs: float, any shape of fewer than 2**31 units.
        rate: in (0, 1).
        seed: int (2,), each number its lowest 32 bits; new for every call.

    Returns:
        As inputs.
    """
    shape = ops.shape(inputs)
    index = ops.reshape(_words(ops.arange(math.prod(shape), dtype="int32")), shape)
    first, second = _seed_words(seed)
    bits = _mixed((index + first) * _word(_GOLDEN), 16)
    # The last shift of the finalizer only stirs low bits, which the comparison hardly sees.
    bits = _mixed(ops.bitwise_xor(bits, second) * _word(_FACTORS[0]), 13) * _word(_FACTORS[1])
    kept = _are_at_least(bits, round(rate * 2**32))
    return ops.where(kept, inputs * (1.0 / (1.0 - rate)), ops.zeros((), dtype=inputs.dtype))


def _drop_in_torch(inputs, rate, seed_generator):
    """Cuts every 64-bit random number into four, where PyTorch's own dropout spends one on each unit (8 ns on a CPU core).

    Random numbers on other devices want their seed as a number of Python's, and each layer would wait for the device to read it.
    """
    import torch

    if inputs.device.type != "cpu":
        return drop_by_hash(inputs, rate, seed_generator.next())
    count = inputs.numel()
    numbers = _torch_random_numbers()(seed_generator.next(), -(-count // 4))
    # A number of 16 bits hits the rate to 1 / 65,536; the scale is that of the rate that is hit.
    dropped = min(max(round(rate * 2**16), 1), 2**16 - 1)
    first_kept = dropped - 2**15
    # 1 for units that are kept and 0 for others, by integer arithmetic in place: comparisons and casts of bool are not vectorised.
    kept = numbers.view(torch.int16)[:count].view(inputs.shape).clamp_(first_kept - 1, first_kept).sub_(first_kept - 1)
    return inputs * _as_factor(kept, 1.0 / (1.0 - dropped / 2**16), inputs.dtype)


@functools.cache
def _torch_random_numbers():
    """Returns an operator from a seed, int (2,), and a count to random int64 (count,).

    It is registered with PyTorch, so that a recorded training step calls it as one operation: what happens inside depends on the seed's
    numbers, which a recording would keep.
    """
    import torch

    name = "electra_keras::random_numbers"
    torch.library.define(name, "(Tensor seed, int count) -> Tensor")

    @torch.library.impl(name, "cpu")
    def random_numbers(seed, count):
        # Twice as fast as PyTorch's own Mersenne twister.
        generator = np.random.SFC64(np.random.SeedSequence([word % 2**32 for word in seed.tolist()]))
        return torch.from_numpy(generator.random_raw(count).view(np.int64))

    @torch.library.register_fake(name)
    def shape_of_random_numbers(seed, count):
        return torch.empty(count, dtype=torch.int64)

    return torch.ops.electra_keras.random_numbers.default


def _as_factor(kept, scale, dtype):
    """Turns int16 1 into the scale and 0 into 0, in the given dtype; consumes `kept`."""
    if dtype.itemsize != 2:
        return kept.to(dtype).mul_(scale)
    # The bits of a number times 1, read as that number again.
    return kept.mul_(_bits(scale, dtype)).view(dtype)


@functools.cache
def _bits(number, dtype):
    """Returns the bits of a number of 16 bits as an integer."""
    import torch

    return int(torch.tensor(number, dtype=dtype).view(torch.int16))


def _seed_words(seed):
    """Returns two unrelated scalar words for every pair of seed words, however close the pairs are."""
    seed = _words(seed)
    first = _finalized(ops.bitwise_xor(seed[0], _finalized(seed[1] + _word(_GOLDEN))))
    return first, _finalized(ops.bitwise_xor(first, seed[1] * _word(_GOLDEN)))


def _finalized(bits):
    for shift, factor in zip((16, 13), _FACTORS, strict=True):
        bits = _mixed(bits, shift) * _word(factor)
    return _mixed(bits, 16)


def _mixed(bits, places):
    return ops.bitwise_xor(bits, _shifted_right(bits, places))


# Words of 32 bits without a sign: as uint32, but on PyTorch, which does no arithmetic with it, as int32, whose sums and products have the
# same bits.


def _words(numbers):
    """Returns integers as words, their lowest 32 bits."""
    return ops.cast(numbers, "int32" if keras.backend.backend() == "torch" else "uint32")


def _word(number):
    """Returns a number below 2**32 as what words are added to and multiplied by."""
    if keras.backend.backend() == "torch":
        return number - 2**32 if number >= 2**31 else number
    return np.uint32(number)


def _shifted_right(words, places):
    if keras.backend.backend() == "torch":
        # The shift itself fills up with the sign.
        return (words >> places) & (2 ** (32 - places) - 1)
    return ops.right_shift(words, np.uint32(places))


def _are_at_least(words, number):
    if keras.backend.backend() == "torch":
        return (words ^ -(2**31)) >= number - 2**31
    return words >= np.uint32(number)
