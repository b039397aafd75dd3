"""Whether what is being computed goes through XLA for a CPU, where some products need a form of their own."""

import keras


def compiles_for_cpu() -> bool:
    """Tells whether XLA will compile the operations that are being recorded for a CPU.

    JAX compiles everything. TensorFlow does so within a function with `jit_compile`, and only there.
    """
    match keras.backend.backend():
        case "jax":
            import jax

            return jax.default_backend() == "cpu"
        case "tensorflow":
            import tensorflow as tf

            # TensorFlow has no public way to ask.
            from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

            return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()) and not tf.config.list_physical_devices("GPU")
        case _:
            return False
