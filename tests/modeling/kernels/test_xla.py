import keras
import pytest

from electra_keras.modeling.kernels.xla import compiles_for_cpu

pytestmark = pytest.mark.backend


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow compiles some functions and others not")
def test_tensorflow_tells_a_compiled_function_from_others():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    found = []

    def record():
        found.append(compiles_for_cpu())
        return tf.constant(0)

    record()
    tf.function(record, jit_compile=False)()
    tf.function(record, jit_compile=True)()
    # What a compiled function calls is compiled with it.
    inner = tf.function(record)
    tf.function(lambda: inner(), jit_compile=True)()
    assert found == [False, False, True, True]


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="see above")
def test_jax_always_compiles_and_pytorch_never():
    if keras.backend.backend() == "torch":
        assert not compiles_for_cpu()
        return
    import jax

    assert compiles_for_cpu() == (jax.default_backend() == "cpu")
