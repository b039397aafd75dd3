"""Arrays at rest: safetensors, which every library reads and nothing executes."""

import pathlib

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from electra_keras.errors import RunError
from electra_keras.files import atomic_open

Arrays = dict[str, np.ndarray]


def save_arrays(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes arrays as safetensors, atomically."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with atomic_open(path, "wb") as file:
        file.write(save(contiguous))


def load_arrays(path: pathlib.Path) -> Arrays:
    """Reads arrays from safetensors.

    Raises:
        RunError: the file is missing, truncated, or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}") from error
