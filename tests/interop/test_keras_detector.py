"""The Keras model that becomes SavedModel and LiteRT, and the ONNX graph beside it, on every backend."""

import numpy as np
import pytest
from keras import ops
from witnesses.electra_in_huggingface import POSITIONS, SHAPES, inputs_of, save_pair

from electra_keras.interop.exporting import run_encoders
from electra_keras.interop.formats.keras_detector import build_keras_detector, quantize_keras_detector
from electra_keras.interop.importing import import_run

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("name", SHAPES)
def test_the_keras_detector_gives_probabilities(tmp_path, name):
    discriminator, _ = save_pair(SHAPES[name], tmp_path / "theirs")
    encoders = run_encoders(import_run(tmp_path / "theirs", tmp_path / "run", report=lambda line: None))
    token_ids = np.random.default_rng(0).integers(0, SHAPES[name].vocab_size, (2, POSITIONS)).astype(np.int32)
    padding_mask = (np.arange(POSITIONS) < np.array([[POSITIONS], [7]])).astype(np.int32)
    inputs = {"token_ids": token_ids, "segment_ids": np.arange(POSITIONS, dtype=np.int32) % 2 * padding_mask, "padding_mask": padding_mask}
    found = ops.convert_to_numpy(build_keras_detector(encoders[0])(inputs))
    expected = 1 / (1 + np.exp(-discriminator(**inputs_of(inputs)).logits.detach().numpy()))
    np.testing.assert_allclose(found[padding_mask == 1], expected[padding_mask == 1], atol=1e-5)

    onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
    from electra_keras.interop.formats.onnx_graph import detector_graph

    graph = detector_graph(encoders[0].size, encoders[0].weights)
    (in_onnx,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, inputs)
    np.testing.assert_allclose(in_onnx, found, atol=1e-5)


def test_int8_stores_matrices_and_words_in_8_bits_and_stays_close(tmp_path):
    name = "embeddings between, 3 heads, none shared"
    save_pair(SHAPES[name], tmp_path / "theirs")
    (discriminator, _) = run_encoders(import_run(tmp_path / "theirs", tmp_path / "run", report=lambda line: None))
    float32, int8 = (build_keras_detector(discriminator) for _ in range(2))
    quantize_keras_detector(int8)
    stored = {weight.path for weight in int8.weights if weight.dtype == "int8"}
    # Words, the projection, four products a layer, and the head's first.
    assert len(stored) == 2 + 4 * SHAPES[name].layers + 1
    assert not any("position" in path or "segment" in path or "prediction" in path for path in stored)
    rng = np.random.default_rng(0)
    inputs = {
        "token_ids": rng.integers(0, SHAPES[name].vocab_size, (16, POSITIONS)).astype(np.int32),
        "segment_ids": np.zeros((16, POSITIONS), np.int32),
        "padding_mask": np.ones((16, POSITIONS), np.int32),
    }
    expected, found = (ops.convert_to_numpy(model(inputs)) for model in (float32, int8))
    difference = np.abs(found - expected)
    assert expected.std() > 0.05 and 0 < difference.mean() < 0.1 * expected.std()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
