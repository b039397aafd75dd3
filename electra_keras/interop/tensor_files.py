"""Tensors out of files that somebody else wrote; whatever such a file says, it is never executed."""

import importlib.util
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from electra_keras.arrays import Arrays
from electra_keras.errors import UserError
from electra_keras.interop.huggingface_tokenizer import read_json
from electra_keras.interop.layout import listing

SAFETENSORS, PYTORCH = "model.safetensors", "pytorch_model.bin"
# Behind the name of a file: says which tensor lies in which of several files.
INDEX_SUFFIX = ".index.json"


def read_tensors(folder: pathlib.Path) -> tuple[Arrays, pathlib.Path]:
    """Reads a model's tensors from safetensors, or from PyTorch's files where there is nothing else.

    Either may be one file, or several with an index (model.safetensors.index.json), as large models are saved.
    Floating-point tensors of any precision become float32; the others, such as position_ids, keep their type.

    Returns:
        The tensors by name, and the file, or index, they come from.

    Raises:
        UserError: there is no such file, it is damaged, holds something else than tensors, or needs PyTorch and has none; an index
            and its files do not hold the same tensors.
    """
    readers: dict[str, Callable[[pathlib.Path], Arrays]] = {SAFETENSORS: _read_safetensors, PYTORCH: _read_pytorch}
    for name, reader in readers.items():
        for path in (folder / name, folder / f"{name}{INDEX_SUFFIX}"):
            if path.is_file():
                arrays = reader(path) if path.name == name else _read_shards(path, reader)
                return {tensor: _as_float32(array) for tensor, array in arrays.items()}, path
    raise UserError(
        f"{folder} has neither {SAFETENSORS} nor {PYTORCH}, nor one of them in parts with an index ({SAFETENSORS}{INDEX_SUFFIX}). "
        "Save the model there with save_pretrained, or fetch it again."
    )


def _read_shards(index: pathlib.Path, reader: Callable[[pathlib.Path], Arrays]) -> Arrays:
    """Reads the files that an index names, each of which must hold what the index says and no more."""
    places = _weight_map(index)
    arrays: Arrays = {}
    for file in sorted(set(places.values())):
        path = index.with_name(file)
        if not path.is_file():
            raise UserError(f"{index} names {file}, which is not there. Fetch it again.")
        content = reader(path)
        expected = [name for name, place in places.items() if place == file]
        missing = [name for name in expected if name not in content]
        extra = [name for name in content if places.get(name) != file]
        if missing or extra:
            found = [f"{kind}: {listing(names)}" for kind, names in (("missing", missing), ("left over", extra)) if names]
            raise UserError(f"{path} does not hold the tensors that {index.name} says: {'; '.join(found)}. Fetch it again.")
        arrays |= content
    return arrays


def _weight_map(index: pathlib.Path) -> Mapping[str, str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index} holds no weight_map, which says where the tensors are. Fetch it again.")
    for file in places.values():
        # A file elsewhere on this machine is none of the model's.
        if not isinstance(file, str) or not file or pathlib.PurePath(file).name != file:
            raise UserError(f"{index} names {file!r}, which is no file beside it. Fetch it again.")
    return places


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
            f"{path} can be read by PyTorch alone, which is not installed. Install it (pip install -r requirements-torch.txt), "
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
