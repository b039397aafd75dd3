"""One trial of benchmarks/formats.py in a process of its own: `python format_trials.py '{"kind": ...}'` prints one JSON object.

The Keras backend is KERAS_BACKEND's; it can be chosen once a process.
"""

import json
import os
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from accelerator import torch_device

from electra_keras.artifacts import RunDirectory
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.interop.exporting import run_encoders
from electra_keras.interop.formats.files import write_onnx, write_onnx_int8
from electra_keras.interop.formats.keras_detector import build_keras_detector, keras_export, quantize_keras_detector
from electra_keras.interop.formats.names import INPUTS
from electra_keras.interop.layout import EncoderSize
from electra_keras.interop.pretrained import PretrainedEncoder
from electra_keras.metrics import detection_metrics

STATIC_SHAPE = (2, 16)
DYNAMIC_SHAPES = ((2, 16), (1, 7), (3, 29))
RANDOM_SIZE = EncoderSize(vocab_size=100, embedding_dim=16, max_positions=32, num_layers=2, hidden_dim=24, num_heads=3, intermediate_dim=48)
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "torch": ".pt2", "openvino": ".xml", "tf_saved_model": ""}

Inputs = dict[str, np.ndarray]
Runner = Callable[[Inputs], np.ndarray]


def load_discriminator(run_dir: str | None) -> PretrainedEncoder:
    """Returns a run's discriminator, or one with random weights."""
    if run_dir:
        return next(encoder for encoder in run_encoders(RunDirectory.open(run_dir)) if encoder.head == "detection")
    rng = np.random.default_rng(0)
    # Matrices keep the scale of their inputs; scales of LayerNorms lie around 1.
    weights = {
        name: (name.endswith("gamma") + rng.normal(size=shape) * (shape[0] ** -0.5 if len(shape) == 2 else 0.3)).astype(np.float32)
        for name, shape in RANDOM_SIZE.weight_shapes("detection").items()
    }
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(RANDOM_SIZE.vocab_size - 5))]
    return PretrainedEncoder(RANDOM_SIZE, "detection", weights, WordPieceTokenizer(vocab), 0.0, 0.0, "random weights")


def random_inputs(vocab_size: int, batch: int, length: int) -> Inputs:
    """Returns random tokens with padding behind all rows but the first."""
    real = np.arange(length) < np.maximum(1, length - 3 * np.arange(batch))[:, None]
    token_ids = np.random.default_rng(length).integers(0, vocab_size, (batch, length))
    segment_ids = real & (np.arange(length) >= length // 2)
    return {name: np.asarray(value, np.int32) for name, value in zip(INPUTS, (token_ids * real, segment_ids, real), strict=True)}


def try_format(job: dict) -> dict:
    """Exports the detector, runs the file, and compares it with the Keras model."""
    import keras

    discriminator = load_discriminator(job["run_dir"])
    model, as_list = build_keras_detector(discriminator), keras.backend.backend() == "torch"
    dynamic = job["shapes"] == "dynamic"
    shapes = DYNAMIC_SHAPES if dynamic else (STATIC_SHAPE,)
    folder = pathlib.Path(job["folder"])
    if job["format"] in ("reference onnx", "reference onnx int8"):
        write = write_onnx_int8 if job["format"].endswith("int8") else write_onnx
        write(discriminator, folder)
        (path,) = folder.iterdir()
        runner = onnx_runner(path)
    else:
        path = folder / f"detector{SUFFIXES[job['format']]}"
        batch, length = (None, None) if dynamic else STATIC_SHAPE
        keras_export(with_input_list(model) if as_list else model, path, job["format"], batch, length)
        runner = RUNNERS[job["runtime"]](path)
    differences = []
    for batch, length in shapes:
        inputs = random_inputs(discriminator.size.vocab_size, batch, length)
        real, found = inputs["padding_mask"] == 1, runner(inputs)
        expected = keras.ops.convert_to_numpy(model(inputs))
        if found.shape != expected.shape:
            raise ValueError(f"the file gives {found.shape} for {expected.shape}")
        differences.append(float(np.abs(found - expected)[real].max()))
    return {"max_abs_difference": max(differences), "megabytes": megabytes(folder)}


def with_input_list(model):
    """Returns the model with its inputs as a list: Keras' exporters for PyTorch take no dictionary."""
    import keras

    inputs = [keras.Input((None,), dtype="int32", name=name) for name in INPUTS]
    return keras.Model(inputs, model(dict(zip(INPUTS, inputs, strict=True))))


def megabytes(path: pathlib.Path) -> float:
    """Returns the size of a file or of all in a folder: some converters write the weights to a file of their own."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 3)


def onnx_runner(path: pathlib.Path) -> Runner:
    """Runs an ONNX file in onnxruntime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options)
    return lambda inputs: session.run(None, {slot.name: named(inputs, slot.name) for slot in session.get_inputs()})[0]


def saved_model_runner(path: pathlib.Path) -> Runner:
    """Runs a SavedModel's serving function."""
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))

    def run(inputs: Inputs) -> np.ndarray:
        return np.asarray(loaded.serve({name: tf.constant(value) for name, value in inputs.items()}))

    return run


def litert_runner(path: pathlib.Path) -> Runner:
    """Runs a .tflite file in the LiteRT interpreter, which has built-in operators only."""
    from ai_edge_litert.interpreter import Interpreter

    return interpreter_runner(Interpreter(os.fspath(path)))


def tensorflow_lite_runner(path: pathlib.Path) -> Runner:
    """Runs a .tflite file in TensorFlow's own interpreter, which falls back on TensorFlow's operators."""
    import tensorflow as tf

    return interpreter_runner(tf.lite.Interpreter(os.fspath(path)))


def interpreter_runner(interpreter) -> Runner:
    """Runs an interpreter after fitting its inputs to those given."""

    def run(inputs: Inputs) -> np.ndarray:
        slots = interpreter.get_input_details()
        for slot in slots:
            interpreter.resize_tensor_input(slot["index"], named(inputs, slot["name"]).shape)
        interpreter.allocate_tensors()
        for slot in slots:
            interpreter.set_tensor(slot["index"], named(inputs, slot["name"]))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def torch_runner(path: pathlib.Path) -> Runner:
    """Runs an exported PyTorch program."""
    import torch

    program, device = torch.export.load(path).module(), torch_device()
    return lambda inputs: program({name: torch.tensor(inputs[name], device=device) for name in INPUTS}).detach().cpu().numpy()


def openvino_runner(path: pathlib.Path) -> Runner:
    """Runs an OpenVINO model."""
    import openvino

    compiled = openvino.Core().compile_model(path)
    return lambda inputs: compiled([named(inputs, *slot.get_names()) for slot in compiled.inputs])[0]


RUNNERS = {
    "onnxruntime": onnx_runner,
    "tensorflow": saved_model_runner,
    "ai_edge_litert": litert_runner,
    "tensorflow.lite": tensorflow_lite_runner,
    "torch": torch_runner,
    "openvino": openvino_runner,
}


def named(inputs: Inputs, *slot_names: str) -> np.ndarray:
    """Returns the input that a slot such as "serving_default_token_ids:0" is for, by any of its names."""
    return next(value for name, value in inputs.items() if any(name in slot_name for slot_name in slot_names))


def corrupt_held_out(job: dict) -> dict:
    """Writes the discriminator's inputs and labels for the run's held-out examples, as its own generator corrupts them."""
    import keras

    from electra_keras.data.dataset import held_out_batches
    from electra_keras.data.prepared import PreparedData
    from electra_keras.modeling.weights import load_named_weights
    from electra_keras.objectives import build_objective
    from electra_keras.objectives.masked_tokens import corrupt, sample_replacements
    from electra_keras.objectives.protocol import Batch

    run = RunDirectory.open(job["run_dir"])
    models = build_objective(run.config.objective).build_models(run.config, run.tokenizer().vocab_size)
    load_named_weights(models, run.final_weights())
    data = PreparedData.open(job["data_dir"] or run.data_path)
    split = data.split("validation")
    batches, _ = held_out_batches(split, data.tokenizer, run.config, min(job["num_examples"], split.num_examples))
    gathered: dict[str, list[np.ndarray]] = {name: [] for name in (*INPUTS, "labels")}
    for data_of_batch in batches:
        batch = Batch.from_data(data_of_batch)
        x = data_of_batch[0]
        logits = models["generator"]({name: x[name] for name in (*INPUTS, "mask_positions")})
        token_ids, labels = corrupt(batch, sample_replacements(logits, run.config.objective.temperature, batch))
        for name, value in zip(gathered, (token_ids, x["segment_ids"], x["padding_mask"], labels), strict=True):
            gathered[name].append(keras.ops.convert_to_numpy(value).astype(np.int32))
    arrays = {name: np.concatenate(values) for name, values in gathered.items()}
    # Rows of padding alone only fill the last batch up.
    filled = arrays["padding_mask"].any(axis=1)
    np.savez(job["path"], **{name: array[filled] for name, array in arrays.items()})
    return {"num_examples": int(filled.sum()), "num_tokens": int(arrays["padding_mask"].sum())}


def try_int8(job: dict) -> dict:
    """Compares a detector in float32 with its int8 version: size, speed, AUC."""
    discriminator, folder = load_discriminator(job["run_dir"]), pathlib.Path(job["folder"])
    if job["format"] == "onnx":
        write_onnx(discriminator, folder)
        write_onnx_int8(discriminator, folder)
        paths = [folder / "detector.onnx", folder / "detector.int8.onnx"]
        runners, sizes = [onnx_runner(path) for path in paths], [megabytes(path) for path in paths]
    else:
        models = [build_keras_detector(discriminator) for _ in range(2)]
        quantize_keras_detector(models[1])
        runners = [model.predict_on_batch for model in models]
        sizes = [round(sum(np.asarray(weight).nbytes for weight in model.weights) / 1e6, 3) for model in models]
    length = min(discriminator.size.max_positions, job["sequence_length"])
    seconds = interleaved(runners, random_inputs(discriminator.size.vocab_size, 8, length), job["rounds"])
    aucs = [auc(runner, job["held_out"]) for runner in runners] if job["held_out"] else [None, None]
    return {
        "megabytes": dict(zip(("float32", "int8"), sizes, strict=True)),
        "size_ratio": round(sizes[1] / sizes[0], 3),
        "seconds": {name: round(statistics.median(values), 6) for name, values in zip(("float32", "int8"), seconds, strict=True)},
        "speed_over_float32": round(statistics.median(seconds[0]) / statistics.median(seconds[1]), 3),
        "detection_auc": dict(zip(("float32", "int8"), aucs, strict=True)),
    }


def interleaved(runners: list[Runner], inputs: Inputs, rounds: int) -> list[list[float]]:
    """Times the runners in turns, so that whatever else the machine does hits all alike; the first turns are not counted."""
    seconds: list[list[float]] = [[] for _ in runners]
    for turn in range(rounds + 3):
        for runner, gathered in zip(runners, seconds, strict=True):
            started = time.perf_counter()
            runner(inputs)
            if turn >= 3:
                gathered.append(time.perf_counter() - started)
    return seconds


def auc(runner: Runner, path: str) -> float:
    """Returns the detection AUC over the held-out tokens."""
    with np.load(path) as held_out:
        arrays = dict(held_out)
    batch_size = 32
    probabilities = [
        np.asarray(runner({name: arrays[name][start : start + batch_size] for name in INPUTS}))
        for start in range(0, len(arrays["labels"]), batch_size)
    ]
    real = arrays["padding_mask"] == 1
    return detection_metrics(arrays["labels"][real], np.concatenate(probabilities)[real])["detection_auc"]


def first_line(message: str) -> str:
    """Returns the first line that says something: Keras and TensorFlow put a frame around what was raised inside."""
    # Colours, and where the packages lie on this machine, belong in no result.
    lines = [re.sub(r"\x1b\[\d*m|(/[\w.-]+)*/site-packages/", "", line).strip() for line in message.splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if not line.startswith("Exception encountered when calling") and not line.endswith("error:")]
    return next(iter([*telling, *lines]), "no message")


KINDS = {"format": try_format, "corrupt": corrupt_held_out, "int8": try_int8}


def main() -> None:
    """Runs the job and prints its result; the trials' libraries print to standard output too, so it is the last line."""
    job = json.loads(sys.argv[1])
    try:
        result = KINDS[job["kind"]](job)
    # A failure is a result here: which converters fail, and how, is what the table tells.
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {first_line(str(error))}"[:240]}
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
