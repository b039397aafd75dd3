"""LayerNorm in the backend's fastest form."""

import keras


@keras.saving.register_keras_serializable(package="electra_keras")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' LayerNorm over the last axis, which computes in float32 under every policy.

    PyTorch's own takes bfloat16 numbers with float32 weights and widens them on their way; Keras widens and rounds them in passes of their
    own, and their gradients too.
    """

    def call(self, inputs):
        """Returns inputs' shape, in the layer's compute dtype."""
        if keras.backend.backend() == "torch":
            import torch

            if inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu":
                outputs = torch.nn.functional.layer_norm(inputs, inputs.shape[-1:], self.gamma.value, self.beta.value, self.epsilon)
                return keras.ops.cast(outputs, self.compute_dtype)
        return super().call(inputs)
