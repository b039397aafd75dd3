"""Initial weights drawn by NumPy, so that one seed means the same weights on every backend.

Keras' own initializers draw with the backend's generator, and JAX, TensorFlow and PyTorch give three answers to one seed.
"""

import hashlib
import math

import keras
import numpy as np

TRUNCATION = 2.0
"""Standard deviations beyond which a truncated normal draw is repeated, as in the original's TensorFlow initializer."""


def derive_seed(seed: int, *names: str) -> int:
    """Derives an independent seed for a named part of a model.

    Names, unlike a counter, keep every other part's seed when a layer is added; the SeedSequence keeps near seeds from
    giving related streams (PyTorch's generator returns shifted copies for adjacent seeds).

    Args:
        seed: the parent's seed, at least 0.
        names: where the part stands, from the outside in.

    Returns:
        An int in [0, 2**31), which every backend takes as a seed.
    """
    digest = hashlib.sha256("/".join(names).encode("utf-8")).digest()
    sequence = np.random.SeedSequence([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])
    return int(sequence.generate_state(1)[0] >> 1)


@keras.saving.register_keras_serializable(package="electra_keras")
class SeededNormal(keras.initializers.Initializer):
    """Normal numbers with mean 0, redrawn beyond two standard deviations; equal on every backend.

    Not called TruncatedNormal: Keras would find its own class under that name when a layer is made from its configuration.

    Args:
        stddev: standard deviation before truncation; "fan_in" is 1/sqrt(first dimension), which keeps a matrix product's scale.
        seed: int in [0, 2**31).
    """

    def __init__(self, stddev: float | str, seed: int):
        self.stddev = stddev
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Returns a tensor of the shape and dtype, drawn in float32."""
        stddev = 1.0 / math.sqrt(shape[0]) if self.stddev == "fan_in" else self.stddev
        return keras.ops.convert_to_tensor(truncated_normal(tuple(shape), self.seed) * np.float32(stddev), dtype=dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"stddev": self.stddev, "seed": self.seed}


@keras.saving.register_keras_serializable(package="electra_keras")
class SeededGlorot(keras.initializers.Initializer):
    """Uniform numbers in +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), equal on every backend.

    Args:
        seed: int in [0, 2**31).
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Returns a tensor of the shape (inputs, outputs) and the dtype, drawn in float32."""
        limit = np.float32(math.sqrt(6.0 / sum(shape)))
        values = np.random.default_rng(self.seed).random(tuple(shape), dtype=np.float32)
        return keras.ops.convert_to_tensor((2.0 * values - 1.0) * limit, dtype=dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


def truncated_normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draws standard normal numbers, float32, redrawing those beyond TRUNCATION."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape, dtype=np.float32)
    outside = np.flatnonzero(np.abs(values) > TRUNCATION)
    while outside.size:
        values.flat[outside] = generator.standard_normal(outside.size, dtype=np.float32)
        outside = outside[np.abs(values.flat[outside]) > TRUNCATION]
    return values


def without_initializer(initialization: str) -> str:
    """Returns the initialization of a matrix that the original gives no initializer, so that it starts as TensorFlow's do, by Glorot's.

    These are the projection of the embeddings (model/modeling.py) and the discriminator's last (run_pretraining.py); at the paper's small
    their standard deviations are 0.072 and 0.088, where all others have 0.018.

    Args:
        initialization: the model's; what stands in for "truncated_normal" here is "glorot_uniform".
    """
    return "glorot_uniform" if initialization == "truncated_normal" else initialization


def matrix_initializer(initialization: str, seed: int) -> SeededNormal | SeededGlorot:
    """Returns the initializer of a dense layer's matrix.

    Args:
        initialization: "truncated_normal" (standard deviation 0.02, as in the original), "glorot_uniform" or "fan_in" (1/sqrt(inputs)).
        seed: int in [0, 2**31).
    """
    if initialization == "glorot_uniform":
        return SeededGlorot(seed)
    return SeededNormal("fan_in" if initialization == "fan_in" else 0.02, seed)
