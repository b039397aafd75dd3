"""A model's forward pass for inference, compiled or recorded once for every shape of its inputs.

Keras' `predict_on_batch` serves any model; for small batches through a small one it costs more than the arithmetic. On PyTorch every
layer's call is Python, several times the products' own time. On TensorFlow a model without an optimizer is not compiled by XLA, and
after a few shapes its trace becomes one for any shape, which rounds otherwise than the first ones did. On JAX it gives the weights'
buffers away for the time of the call, so that two threads get in each other's way.
"""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from electra_keras.errors import BackendError

Inputs = Mapping[str, np.ndarray]


def forward_function(model: keras.Model) -> Callable[[Inputs], np.ndarray]:
    """Returns a function from a model's named inputs to its output, in inference mode and without gradients.

    The function reads the weights when it is called. The first call with a shape costs some tenths of a second, and two threads must not
    make it at the same time. One shape's results do not depend on which other shapes have been seen.

    Args:
        model: takes a dictionary of arrays and returns one tensor.

    Raises:
        BackendError: keras runs on a backend that this project does not know.
    """
    match keras.backend.backend():
        case "jax":
            return _jax_forward(model)
        case "tensorflow":
            return _by_shape(lambda inputs: _tensorflow_forward(model))
        case "torch":
            return _by_shape(lambda inputs: _torch_forward(model, inputs))
        case other:
            raise BackendError(f"There is no forward pass for the backend {other!r}; set KERAS_BACKEND to jax, tensorflow or torch.")


def _jax_forward(model: keras.Model) -> Callable[[Inputs], np.ndarray]:
    import jax

    # jax.jit keeps one compiled function for every shape itself.
    compiled = jax.jit(_pure(model))
    return lambda inputs: np.asarray(compiled(*_weights(model), dict(inputs)))


def _tensorflow_forward(model: keras.Model) -> Callable[[Inputs], np.ndarray]:
    import tensorflow as tf

    # A function of its own for every shape: one that sees many of them warns about being traced again.
    compiled = tf.function(lambda inputs: model(inputs, training=False), jit_compile=True)
    return lambda inputs: compiled({name: tf.constant(array) for name, array in inputs.items()}).numpy()


def _torch_forward(model: keras.Model, example: Inputs) -> Callable[[Inputs], np.ndarray]:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    def tensors(inputs: Inputs) -> dict:
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}

    # The tensors themselves, which an assignment changes in place.
    weights = _weights(model)
    # Recorded with tensors without numbers: with them, all intermediate results would be held at once.
    with torch.no_grad():
        recorded = make_fx(_pure(model), tracing_mode="fake")(*weights, tensors(example))

    def forward(inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            return recorded(*weights, tensors(inputs)).cpu().numpy()

    return forward


def _pure(model: keras.Model) -> Callable:
    """Returns the function from weights, as `_weights` gives them, and inputs to the output: as constants, weights would be built in."""
    return lambda trained, others, inputs: model.stateless_call(trained, others, inputs, training=False)[0]


def _weights(model: keras.Model) -> list[list]:
    return [[variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)]


def _by_shape(build: Callable[[Inputs], Callable[[Inputs], np.ndarray]]) -> Callable[[Inputs], np.ndarray]:
    functions: dict[tuple, Callable[[Inputs], np.ndarray]] = {}

    def forward(inputs: Inputs) -> np.ndarray:
        shape = tuple((name, array.shape, array.dtype) for name, array in inputs.items())
        if shape not in functions:
            functions[shape] = build(inputs)
        return functions[shape](inputs)

    return forward
