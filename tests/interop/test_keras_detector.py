"""The Keras model that becomes SavedModel and LiteRT, and the ONNX graph beside it, on every backend."""

import numpy as np
import pytest
from keras import ops
from witnesses.electra_in_huggingface import POSITIONS, SHAPES, inputs_of, save_pair

from electra_keras.interop.exporting import run_encoders
from electra_keras.interop.formats.keras_detector import build_keras_detector
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

    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra electra-keras[export] is not installed")
    from electra_keras.interop.formats.onnx_graph import detector_graph

    graph = detector_graph(encoders[0].size, encoders[0].weights)
    (in_onnx,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, inputs)
    np.testing.assert_allclose(in_onnx, found, atol=1e-5)
