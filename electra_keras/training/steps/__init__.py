"""The gradient and the update, once for each backend; the losses themselves are backend-neutral."""

import importlib

import keras

from electra_keras.errors import BackendError


def step_mixin() -> type:
    """Returns the class that gives a keras.Model the `train_step` and `test_step` of the running backend."""
    match keras.backend.backend():
        case "jax":
            name = "JaxSteps"
        case "tensorflow":
            name = "TensorFlowSteps"
        case "torch":
            name = "TorchSteps"
        case other:
            raise BackendError(f"There is no training step for the backend {other!r}; set KERAS_BACKEND to jax, tensorflow or torch.")
    return getattr(importlib.import_module(f"electra_keras.training.steps.{keras.backend.backend()}"), name)


class _KerasUpdates:
    """Leaves Keras' loop over the weights as it is: a compiler fuses it."""


def optimizer_mixin() -> type:
    """Returns the class that gives a GroupedOptimizer the running backend's way to update many weights."""
    if keras.backend.backend() == "torch":
        return importlib.import_module("electra_keras.training.steps.torch_optimizer").FusedAdamW
    return _KerasUpdates
