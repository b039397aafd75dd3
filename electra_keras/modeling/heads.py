"""What stands on the encoder: token prediction for the generator, detection for the discriminator."""

import keras
from keras import ops

from electra_keras.modeling.initializers import without_initializer
from electra_keras.modeling.kernels.activation import gelu
from electra_keras.modeling.kernels.matmul import add_output_bias
from electra_keras.modeling.transformer import dense, layer_norm


@keras.saving.register_keras_serializable(package="electra_keras")
class MaskedLMHead(keras.layers.Layer):
    """Turns the encoder's vectors into the space of the word embeddings; their product with these gives the logits.

    Args:
        embedding_dim: width of the word embeddings.
        initialization: "truncated_normal" or "fan_in".
        seed: seed of the initial weights.
        kwargs: name and dtype of the layer.
    """

    def __init__(self, embedding_dim, *, initialization="truncated_normal", seed=0, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.initialization = initialization
        self.seed = seed
        self.dense = dense(embedding_dim, "dense", initialization, seed, self.dtype_policy, gelu)
        self.norm = layer_norm("norm", self.dtype_policy)

    def build(self, inputs_shape):
        """Makes the weights."""
        self.dense.build(inputs_shape)
        self.norm.build((None, self.embedding_dim))

    def call(self, inputs):
        """Returns float (tokens, embedding_dim) for float (tokens, hidden_dim)."""
        return self.norm(self.dense(inputs))

    def compute_output_spec(self, inputs):
        """Returns the symbolic output."""
        return keras.KerasTensor((*inputs.shape[:-1], self.embedding_dim), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("embedding_dim", "initialization", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="electra_keras")
class OutputBias(keras.layers.Layer):
    """Adds one number per vocabulary entry to the logits; starts at zero."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def build(self, inputs_shape):
        """Makes the bias."""
        self.bias = self.add_weight(shape=(inputs_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs):
        """Returns float (tokens, vocab_size)."""
        return add_output_bias(inputs, ops.convert_to_tensor(self.bias, dtype=self.compute_dtype))

    def compute_output_spec(self, inputs):
        """Returns the symbolic output."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable(package="electra_keras")
class DetectionHead(keras.layers.Layer):
    """Scores every token: the logit of having been replaced.

    Args:
        hidden_dim: width of the stream.
        initialization: "truncated_normal" or "fan_in".
        seed: seed of the initial weights.
        kwargs: name and dtype of the layer.
    """

    def __init__(self, hidden_dim, *, initialization="truncated_normal", seed=0, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.initialization = initialization
        self.seed = seed
        self.dense = dense(hidden_dim, "dense", initialization, seed, self.dtype_policy, gelu)
        # The last product is cheap and its result goes into a loss: it stays in float32 under every policy.
        self.prediction = dense(1, "prediction", without_initializer(initialization), seed, "float32")

    def build(self, inputs_shape, padding_mask_shape=None):
        """Makes the weights."""
        self.dense.build((None, self.hidden_dim))
        self.prediction.build((None, self.hidden_dim))

    def call(self, inputs, padding_mask):
        """Returns float32 (batch, length), logits before the sigmoid.

        Args:
            inputs: float (batch * length, hidden_dim).
            padding_mask: any tensor (batch, length), for its shape.
        """
        logits = self.prediction(self.dense(inputs))
        return ops.reshape(logits, (-1, ops.shape(padding_mask)[1]))

    def compute_output_spec(self, inputs, padding_mask):
        """Returns the symbolic output."""
        return keras.KerasTensor(padding_mask.shape, dtype="float32")

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("hidden_dim", "initialization", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
