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
            return _by_shape(lambda inputs: _tensorflow_forward(model))
        case "torch":
            return _torch_forward(model)
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


def _torch_forward(model: keras.Model) -> Callable[[Inputs], np.ndarray]:
    import torch

    # The tensors themselves, which an assignment changes in place.
    weights = _weights(model)
    recordings: dict[tuple, torch.fx.GraphModule] = {}

    def forward(inputs: Inputs) -> np.ndarray:
        tensors = {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
        # Batches of several rows may each have another shape; one row need not wait for the longer recording. PyTorch records a size of 1
        # as 1 whatever it is told, since it broadcasts.
        any_sizes = all(1 not in array.shape for array in inputs.values())
        key = tuple((name, array.dtype, array.ndim if any_sizes else array.shape) for name, array in inputs.items())
        if key not in recordings:
            recordings[key] = _torch_recording(model, weights, tensors, any_sizes)
        with torch.inference_mode():
            return recordings[key](*weights, tensors).cpu().numpy()

    return forward


def _torch_recording(model: keras.Model, weights: list[list], tensors: Mapping, any_sizes: bool):
    """Records the forward pass of inputs with these sizes, or with any.

    Recorded with tensors without numbers: with them, all intermediate results would be held at once.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    # Sizes that are equal in the example, as rows and tokens may be, are not taken to be equal always.
    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
    kind = DimDynamic.DYNAMIC if any_sizes else DimDynamic.STATIC

    def without_numbers(tensor):
        return mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=[kind] * tensor.dim()))

    examples = {name: without_numbers(tensor) for name, tensor in tensors.items()}
    fixed = [[mode.from_tensor(weight.detach(), static_shapes=True) for weight in group] for group in weights]
    with torch.no_grad():
        return make_fx(_pure(model))(*fixed, examples)


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
