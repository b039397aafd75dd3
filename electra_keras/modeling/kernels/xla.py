"""Whether what is being computed goes through XLA for a CPU, where some operations need a form and gradients of their own."""

import functools

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

            return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()) and not tf.config.list_logical_devices("GPU")
        case _:
            return False


def jax_compiles_for_cpu() -> bool:
    """Tells whether it is JAX that compiles for a CPU: forms that its XLA gains by may cost TensorFlow's, an older one."""
    return keras.backend.backend() == "jax" and compiles_for_cpu()


@functools.cache
def custom_gradient(forward, backward, plain=None):
    """Returns a function with the gradients that are written for it, on JAX or TensorFlow.

    Args:
        forward: from the arguments to the result, or a tuple of results, and what `backward` needs.
        backward: from that and the gradient of every result to the gradients of all arguments, None where there is none.
        plain: from the arguments to the result, for JAX where no gradient is taken and `forward` would compute more than is needed.
    """
    if keras.backend.backend() == "jax":
        import jax

        function = jax.custom_vjp(plain or (lambda *arguments: forward(*arguments)[0]))
        function.defvjp(forward, lambda kept, gradient: backward(kept, *(gradient if isinstance(gradient, tuple) else (gradient,))))
        return function

    import tensorflow as tf

    def result_and_gradient(*arguments):
        result, kept = forward(*arguments)
        return result, functools.partial(backward, kept)

    return tf.custom_gradient(result_and_gradient)
