"""Folders with the detector as a file for inference, and the vocabulary that belongs to it.

    onnx          detector.onnx         float32, any batch, any length up to the model's positions, needs no backend: the reference
    onnx_int8     detector.int8.onnx    the same with 8-bit weights
    saved_model   saved_model/          TensorFlow, any batch, any length up to the model's positions
    litert        detector.tflite       one text of the longest length

Each with vocab.txt and tokenizer_config.json, which tells transformers where to cut a text that is too long.
"""

import importlib.util
import pathlib
from collections.abc import Callable, Sequence

from electra_keras.errors import UserError
from electra_keras.interop.formats.keras_detector import write_litert, write_saved_model
from electra_keras.interop.huggingface_tokenizer import write_tokenizer
from electra_keras.interop.pretrained import PretrainedEncoder

# Writes a discriminator into a folder and returns a line for the user.
FileWriter = Callable[[PretrainedEncoder, pathlib.Path], str]


def write_onnx(discriminator: PretrainedEncoder, folder: pathlib.Path) -> str:
    """Writes the reference, detector.onnx.

    Raises:
        UserError: onnx is not installed.
    """
    _require("onnx")
    import onnx

    from electra_keras.interop.formats.onnx_graph import detector_graph

    onnx.save(detector_graph(discriminator.size, discriminator.weights), folder / "detector.onnx")
    return f"detector.onnx runs in onnxruntime, any batch, up to {discriminator.size.max_positions} tokens: {_SIGNATURE}"


def write_onnx_int8(discriminator: PretrainedEncoder, folder: pathlib.Path) -> str:
    """Writes detector.int8.onnx.

    Raises:
        UserError: onnx or onnxruntime is not installed.
    """
    _require("onnx", "onnxruntime")
    from electra_keras.interop.formats.onnx_graph import detector_graph
    from electra_keras.interop.formats.quantization import write_int8

    write_int8(detector_graph(discriminator.size, discriminator.weights), folder / "detector.int8.onnx")
    return f"detector.int8.onnx runs in onnxruntime, any batch, up to {discriminator.size.max_positions} tokens: {_SIGNATURE}"


_SIGNATURE = "int32 token_ids, segment_ids, padding_mask (batch, length) -> float32 probabilities"
FILE_WRITERS: dict[str, FileWriter] = {
    "onnx": write_onnx,
    "onnx_int8": write_onnx_int8,
    "saved_model": write_saved_model,
    "litert": write_litert,
}


def folder_writer(name: str) -> Callable[[Sequence[PretrainedEncoder], pathlib.Path], list[str]]:
    """Returns the function that `export_run` calls for a format: it takes a run's encoders and writes the discriminator."""

    def write(encoders: Sequence[PretrainedEncoder], folder: pathlib.Path) -> list[str]:
        discriminator = next((encoder for encoder in encoders if encoder.head == "detection"), None)
        if discriminator is None:
            raise UserError(f"{encoders[0].source} has no detection head, so there is no detector to export. Choose a run that detects.")
        line = FILE_WRITERS[name](discriminator, folder)
        write_tokenizer(discriminator.tokenizer, discriminator.size.max_positions, folder)
        return [line, "vocab.txt and tokenizer_config.json open with transformers.BertTokenizerFast.from_pretrained"]

    return write


def _require(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"This format needs {' and '.join(missing)}. Install it with pip install -r requirements-export.txt.")
