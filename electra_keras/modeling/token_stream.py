"""Between (batch, length, features) and the two-dimensional token stream (batch * length, features).

Dense layers and LayerNorm run on the stream: XLA on CPU took half the time for a feed-forward layer on (4096, 128) of what it
took on (32, 128, 128). All shapes may be unknown when the model is built, as an export with dynamic length needs: the
tensor given as a reference says the length when the model runs, for a reshape with two unknown sizes is not possible.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="electra_keras")
class FlattenTokens(keras.layers.Layer):
    """Turns (batch, length, features) into (batch * length, features)."""

    def call(self, inputs):
        """Returns the stream."""
        return ops.reshape(inputs, (-1, inputs.shape[-1]))

    def compute_output_spec(self, inputs):
        """Returns the symbolic output."""
        return keras.KerasTensor((None, inputs.shape[-1]), dtype=inputs.dtype)


@keras.saving.register_keras_serializable(package="electra_keras")
class RestoreTokens(keras.layers.Layer):
    """Turns the stream (batch * length, features) back into (batch, length, features), in its width."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs, reference):
        """Returns the tokens by example.

        Args:
            inputs: float (batch * length, features).
            reference: any tensor (batch, length).
        """
        return ops.reshape(inputs, (-1, ops.shape(reference)[1], inputs.shape[-1]))

    def compute_output_spec(self, inputs, reference):
        """Returns the symbolic output."""
        return keras.KerasTensor((*reference.shape[:2], inputs.shape[-1]), dtype=inputs.dtype)


def gather_tokens(stream, positions, length):
    """Picks tokens out of the stream by their position in their example.

    Positions that only fill up a row (KerasHub fills with 0) pick [CLS]; who uses the result gives them weight 0.

    Args:
        stream: float (batch * length, features).
        positions: int (batch, picked), in [0, length).
        length: tokens to an example.

    Returns:
        float (batch * picked, features).
    """
    starts = ops.expand_dims(ops.arange(ops.shape(positions)[0], dtype="int32") * length, axis=1)
    rows = ops.reshape(starts + ops.cast(positions, "int32"), (-1,))
    return ops.take(stream, rows, axis=0)
