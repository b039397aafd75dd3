"""LayerNorm in the backend's fastest form."""

import keras
from keras import ops

from electra_keras.modeling.kernels.xla import compiles_for_cpu, custom_gradient


@keras.saving.register_keras_serializable(package="electra_keras")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' LayerNorm over the last axis, which computes in float32 under every policy.

    PyTorch's own takes bfloat16 numbers with float32 weights and widens them on their way; Keras widens and rounds them in passes of their
    own, and their gradients too. XLA on CPU gets the gradients written out.
    """

    def call(self, inputs):
        """Returns inputs' shape, in the layer's compute dtype."""
        if keras.backend.backend() == "torch":
            import torch

            if inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu":
                outputs = torch.nn.functional.layer_norm(inputs, inputs.shape[-1:], self.gamma.value, self.beta.value, self.epsilon)
                return ops.cast(outputs, self.compute_dtype)
        if compiles_for_cpu():
            weights = (ops.convert_to_tensor(weight.value, dtype="float32") for weight in (self.gamma, self.beta))
            outputs = custom_gradient(_forward, _backward)(ops.cast(inputs, "float32"), *weights, self.epsilon)
            return ops.cast(outputs, self.compute_dtype)
        return super().call(inputs)


def _forward(inputs, gamma, beta, epsilon):
    """Returns the result, float32 (..., features), and what the gradient needs; all arguments are float32."""
    mean = ops.mean(inputs, axis=-1, keepdims=True)
    scale = ops.rsqrt(ops.mean(ops.square(inputs - mean), axis=-1, keepdims=True) + epsilon)
    return (inputs - mean) * scale * gamma + beta, (inputs, mean, scale, gamma)


def _backward(kept, gradient):
    inputs, mean, scale, gamma = kept
    rows = tuple(range(len(inputs.shape) - 1))
    normal = (inputs - mean) * scale
    product = gradient * normal
    # Means over a row of numbers times gamma, by products: of sums XLA on CPU first writes gamma out for every row.
    column = ops.expand_dims(gamma / inputs.shape[-1], -1)
    inward = scale * (gradient * gamma - ops.matmul(gradient, column) - normal * ops.matmul(product, column))
    return inward, ops.sum(product, axis=rows), ops.sum(gradient, axis=rows), None
