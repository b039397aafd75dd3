"""A model's forward pass for inference, compiled or recorded once for every shape of its inputs, on PyTorch once for all of several rows.

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

    The function reads the weights when it is called. The first call with a shape costs some tenths of a second; on PyTorch only the first
    with a shape of one row, and the first of all with several rows, which costs a few times as much. Two threads must not make such a call
    at the same time. One shape's results do not depend on which other shapes have been seen.

    Args:
        model: takes a dictionary of arrays and returns one tensor.

    Raises:
        BackendError: keras runs on a backend that this project does not know.
    """
    match keras.backend.backend():
        case "jax":
            return _jax_forward(model)
        case "tensorflow":
            return _kept(_shapes, lambda inputs: _tensorflow_forward(model))
        case "torch":
            return _kept(_recorded_sizes, lambda inputs: _torch_forward(model, inputs))
        case other:
            raise BackendError(f"There is no forward pass for the backend {other!r}; set KERAS_BACKEND to jax, tensorflow or torch.")


def wants_few_shapes() -> bool:
    """Tells whether every shape of several rows costs a compilation; PyTorch's recording of them serves all."""
    return keras.backend.backend() != "torch"


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
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    def tensors(inputs: Inputs) -> dict:
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}

    # Recorded with tensors without numbers: with them, all intermediate results would be held at once. Sizes that are equal in the example,
    # as rows and tokens may be, are not taken to be equal always.
    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
    kind = DimDynamic.DYNAMIC if _any_sizes(example) else DimDynamic.STATIC

    def without_numbers(tensor):
        return mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=[kind] * tensor.dim()))

    # The tensors themselves, which an assignment changes in place.
    weights = _weights(model)
    fixed = [[mode.from_tensor(weight.detach(), static_shapes=True) for weight in group] for group in weights]
    with torch.no_grad():
        recorded = make_fx(_pure(model))(*fixed, {name: without_numbers(tensor) for name, tensor in tensors(example).items()})

    def forward(inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            return recorded(*weights, tensors(inputs)).cpu().numpy()

    return forward


def _any_sizes(inputs: Inputs) -> bool:
    """Tells whether a recording serves other sizes than these too, as batches of several rows want.

    One row need not wait for the longer recording, and PyTorch records a size of 1 as 1 whatever it is told, since it broadcasts.
    """
    return all(1 not in array.shape for array in inputs.values())


def _pure(model: keras.Model) -> Callable:
    """Returns the function from weights, as `_weights` gives them, and inputs to the output: as constants, weights would be built in."""
    return lambda trained, others, inputs: model.stateless_call(trained, others, inputs, training=False)[0]


def _weights(model: keras.Model) -> list[list]:
    return [[variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)]


def _kept(key_of: Callable[[Inputs], tuple], build: Callable[[Inputs], Callable[[Inputs], np.ndarray]]) -> Callable[[Inputs], np.ndarray]:
    """Returns a function that builds one for every key of its inputs."""
    functions: dict[tuple, Callable[[Inputs], np.ndarray]] = {}

    def forward(inputs: Inputs) -> np.ndarray:
        key = key_of(inputs)
        if key not in functions:
            functions[key] = build(inputs)
        return functions[key](inputs)

    return forward


def _shapes(inputs: Inputs) -> tuple:
    return tuple((name, array.shape, array.dtype) for name, array in inputs.items())


def _recorded_sizes(inputs: Inputs) -> tuple:
    return tuple((name, array.ndim, array.dtype) for name, array in inputs.items()) if _any_sizes(inputs) else _shapes(inputs)
