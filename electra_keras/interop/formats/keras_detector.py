"""The detector as a Keras model with probabilities as its output, and the files that `Model.export` makes of it."""

import os
import pathlib
from typing import Any

from electra_keras.backend import choose_backend, loaded_backend
from electra_keras.errors import BackendError
from electra_keras.interop.formats.names import INPUTS, OUTPUT
from electra_keras.interop.layout import to_run_weights
from electra_keras.interop.pretrained import PretrainedEncoder

# The layers that Keras may store in 8 bits. Of the position and segment embeddings the model reads the matrices themselves, which as
# 8-bit numbers without their scale mean nothing; the last layer, named prediction, has one column, which is the result itself.
INT8_LAYERS = r"^(word|embeddings_project|qkv|output|intermediate|dense)$"
# The one backend whose SavedModel and LiteRT files are right as tried (benchmarks/formats.py); weights know no backend.
BACKEND = "tensorflow"


def build_keras_detector(discriminator: PretrainedEncoder) -> Any:
    """Builds the discriminator with a sigmoid behind it, float32, without dropout.

    Returns:
        keras.Model from {token_ids, segment_ids, padding_mask}, int32 (batch, length), to P(replaced), float32 (batch, length).
    """
    # A caller may have had no need of keras so far.
    choose_backend(None, None)

    import keras

    from electra_keras.modeling.models import build_discriminator
    from electra_keras.modeling.weights import load_named_weights

    size = discriminator.size
    model = build_discriminator(size.model_config(), size.vocab_size, dtype="float32")
    load_named_weights({"discriminator": model}, to_run_weights(discriminator.weights, "discriminator", own_embeddings=False))
    outputs = keras.layers.Activation("sigmoid", dtype="float32", name=OUTPUT)(model.output)
    return keras.Model(model.input, outputs, name="detector")


def quantize_keras_detector(model: Any) -> None:
    """Turns a detector's matrices and word embeddings into 8-bit ones, in place, by Keras' own `Model.quantize`.

    Called without a choice of layers, that method also takes the position and segment embeddings (AUC 0.49, or a TypeError on
    TensorFlow) and leaves out every dense layer, because ours is a subclass of Keras' own; it quantizes and computes as that does.

    Args:
        model: as `build_keras_detector` returns it.
    """
    model.quantize("int8", filters=INT8_LAYERS, type_check=False)


def keras_export(model: Any, path: str | os.PathLike, file_format: str, batch: int | None, length: int | None) -> None:
    """Calls `Model.export` for a given shape of the inputs.

    Args:
        model: as `build_keras_detector` returns it.
        path: file or folder to write.
        file_format: a format of `Model.export`.
        batch: texts at once; None for any number.
        length: tokens of each; None for any number.

    Raises:
        Exception: whatever the converter raises; which combinations work depends on the backend.
    """
    import keras

    signature = [{name: keras.InputSpec(shape=(batch, length), dtype="int32", name=name) for name in INPUTS}]
    model.export(os.fspath(path), format=file_format, input_signature=signature, verbose=False)


def write_saved_model(discriminator: PretrainedEncoder, folder: pathlib.Path) -> str:
    """Writes a TensorFlow SavedModel into folder/saved_model, for any batch and any length up to the model's positions.

    Returns:
        A line for the user.

    Raises:
        BackendError: keras is loaded with another backend than TensorFlow.
    """
    _choose_tensorflow()
    keras_export(build_keras_detector(discriminator), folder / "saved_model", "tf_saved_model", None, None)
    limits = f"any batch, up to {discriminator.size.max_positions} tokens"
    return f"saved_model/ opens with tensorflow.saved_model.load; .serve({{token_ids, segment_ids, padding_mask}}), {limits}"


def write_litert(discriminator: PretrainedEncoder, folder: pathlib.Path) -> str:
    """Writes a LiteRT (TFLite) file with built-in operators only, for one text of the model's longest sequence.

    A file with dynamic length needs TensorFlow's own operators in the interpreter, which phones lack; texts are padded instead.

    Returns:
        A line for the user.

    Raises:
        BackendError: keras is loaded with another backend than TensorFlow.
    """
    _choose_tensorflow()
    length = discriminator.size.max_positions
    keras_export(build_keras_detector(discriminator), folder / "detector.tflite", "litert", 1, length)
    return f"detector.tflite runs in LiteRT with built-in operators, one text at a time, padded to {length} tokens (padding_mask 0)"


def _choose_tensorflow() -> None:
    if loaded_backend() not in (None, BACKEND):
        raise BackendError(
            f"This format is written with Keras on TensorFlow, but keras is already loaded with {loaded_backend()} in this process. "
            "Export in a process of its own: `electra-keras export`."
        )
    choose_backend(BACKEND, None)
