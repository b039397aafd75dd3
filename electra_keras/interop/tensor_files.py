"""Tensors out of files that somebody else wrote; whatever such a file says, it is never executed."""

import importlib.util
import pathlib
import warnings
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from electra_keras.artifacts import Arrays
from electra_keras.errors import UserError

SAFETENSORS, PYTORCH = "model.safetensors", "pytorch_model.bin"


def read_tensors(folder: pathlib.Path) -> tuple[Arrays, pathlib.Path]:
    """Reads a model's tensors from model.safetensors, or from pytorch_model.bin where there is nothing else.

    Floating-point tensors of any precision become float32; the others, such as position_ids, keep their type.

    Returns:
        The tensors by name, and the file they come from.

    Raises:
        UserError: there is no such file, it is damaged, holds something else than tensors, or needs PyTorch and has none.
    """
    if (folder / SAFETENSORS).is_file():
        path = folder / SAFETENSORS
        arrays = _read_safetensors(path)
    elif (folder / PYTORCH).is_file():
        path = folder / PYTORCH
        arrays = _read_pytorch(path)
    else:
        raise UserError(f"{folder} has neither {SAFETENSORS} nor {PYTORCH}. Save the model there with save_pretrained, or fetch it again.")
    return {name: _as_float32(array) for name, array in arrays.items()}, path


def _read_safetensors(path: pathlib.Path) -> Arrays:
    # Gives NumPy the type bfloat16, which safetensors asks it for by name.
    import ml_dtypes  # noqa: F401

    try:
        return load_file(path)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}): it is cut short or damaged. Fetch it again.") from error


def _read_pytorch(path: pathlib.Path) -> Arrays:
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f'{path} can be read by PyTorch alone, which is not installed. Install it (pip install "electra-keras[torch]"), '
            f"or save the model as {SAFETENSORS}."
        )
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever stands in a damaged or hostile file, PyTorch's reader trips over it in one of a dozen ways.
    except Exception as error:
        first_line = str(error).split("\n")[0].split(". ")[0]
        raise UserError(
            f"{path} holds no plain tensors: it is damaged, or a pickle that wants to run code, which is never done "
            f"({type(error).__name__}: {first_line}). Use a model.safetensors instead."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise UserError(f"{path} holds no plain dictionary of tensors. Save the model's state_dict there, or use a {SAFETENSORS}.")
    return {str(name): _from_torch(tensor) for name, tensor in content.items()}


def _from_torch(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _as_float32(array: np.ndarray) -> np.ndarray:
    # ml_dtypes' bfloat16 has kind "V" or "f", depending on its version.
    return array if array.dtype.kind in "iub" else np.asarray(array, dtype=np.float32)
