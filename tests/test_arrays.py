"""Arrays at rest."""

import numpy as np
import pytest

from electra_keras.arrays import load_arrays, save_arrays
from electra_keras.errors import RunError


def test_arrays_come_back_whatever_their_layout(tmp_path):
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "step": np.array(7)}
    save_arrays(tmp_path / "weights.safetensors", arrays)
    loaded = load_arrays(tmp_path / "weights.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        load_arrays(tmp_path / "weights.safetensors")
