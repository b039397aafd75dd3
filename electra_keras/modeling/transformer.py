"""ELECTRA's Transformer block: post-LayerNorm, erf-GELU, on the two-dimensional token stream."""

import functools

import keras
from keras import ops

from electra_keras.modeling.constants import LAYER_NORM_EPSILON
from electra_keras.modeling.initializers import derive_seed, matrix_initializer
from electra_keras.modeling.kernels.activation import dense_gelu, gelu
from electra_keras.modeling.kernels.attention import attend, split_in_three
from electra_keras.modeling.kernels.dropout import Dropout
from electra_keras.modeling.kernels.matmul import dense as dense_product
from electra_keras.modeling.kernels.normalization import LayerNormalization
from electra_keras.modeling.token_stream import gather_tokens


@keras.saving.register_keras_serializable(package="electra_keras")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention with its output projection.

    Query, key and value come from one matrix product; the columns of its kernel, (hidden_dim, 3 * hidden_dim), are those of all
    query heads, then all key heads, then all value heads.

    Args:
        hidden_dim: width of the stream.
        num_heads: attention heads; divides hidden_dim.
        attention_dropout: chance of zeroing an attention weight in training.
        initialization: "truncated_normal" or "fan_in".
        seed: seed of the initial weights and of dropout.
        kwargs: name and dtype of the layer.
    """

    def __init__(self, hidden_dim, num_heads, *, attention_dropout=0.0, initialization="truncated_normal", seed=0, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.initialization = initialization
        self.seed = seed
        self.qkv = dense(3 * hidden_dim, "qkv", initialization, seed, self.dtype_policy)
        self.projection = dense(hidden_dim, "output", initialization, seed, self.dtype_policy)
        self.drop = Dropout(attention_dropout, seed=derive_seed(seed, "dropout"), dtype=self.dtype_policy, name="dropout")

    def build(self, inputs_shape):
        """Makes the weights."""
        self.qkv.build((None, self.hidden_dim))
        self.projection.build((None, self.hidden_dim))

    def call(self, inputs, padding_mask, positions=None, training=None):
        """Returns the mixed tokens, float (batch * length, hidden_dim), or (batch * picked, hidden_dim).

        Args:
            inputs: float (batch * length, hidden_dim).
            padding_mask: int or bool (batch, length), 1 = real.
            positions: int (batch, picked), in [0, length), the tokens that are wanted; None for all.
            training: whether dropout acts.
        """
        length = ops.shape(padding_mask)[1]
        query, key, value = self.heads(inputs, length)
        if positions is not None:
            picked = gather_tokens(ops.reshape(query, (-1, self.hidden_dim)), positions, length)
            query = ops.reshape(picked, (-1, ops.shape(positions)[1], *query.shape[2:]))
        drops = training and self.attention_dropout > 0
        mixed = attend(query, key, value, padding_mask, functools.partial(self.drop, training=True) if drops else None)
        return self.projection(ops.reshape(mixed, (-1, self.hidden_dim)))

    def heads(self, inputs, length):
        """Returns query, key and value, float (batch, length, heads, head_dim) each.

        Args:
            inputs: float (batch * length, hidden_dim).
            length: tokens to an example.
        """
        shape = (-1, length, self.num_heads, self.hidden_dim // self.num_heads)
        # JAX' product of 16-bit matrices comes in float32; attention takes them in the policy's width.
        parts = split_in_three(ops.cast(self.qkv(inputs), self.compute_dtype))
        return tuple(ops.reshape(part, shape) for part in parts)

    def compute_output_spec(self, inputs, padding_mask, positions=None, training=None):
        """Returns the symbolic output."""
        return keras.KerasTensor((None, self.hidden_dim), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("hidden_dim", "num_heads", "attention_dropout", "initialization", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="electra_keras")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward, each followed by dropout, the residual and a LayerNorm.

    Args:
        hidden_dim: width of the stream.
        num_heads: attention heads; divides hidden_dim.
        intermediate_dim: width between the two feed-forward matrices.
        dropout: chance of zeroing a hidden unit in training.
        attention_dropout: chance of zeroing an attention weight in training.
        initialization: "truncated_normal" or "fan_in".
        seed: seed of the initial weights and of dropout.
        kwargs: name and dtype of the layer.
    """

    def __init__(
        self,
        hidden_dim,
        num_heads,
        intermediate_dim,
        *,
        dropout=0.0,
        attention_dropout=0.0,
        initialization="truncated_normal",
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout_rate = dropout
        self.attention_dropout = attention_dropout
        self.initialization = initialization
        self.seed = seed
        policy = self.dtype_policy
        self.attention = SelfAttention(
            hidden_dim,
            num_heads,
            attention_dropout=attention_dropout,
            initialization=initialization,
            seed=derive_seed(seed, "attention"),
            dtype=policy,
            name="attention",
        )
        self.attention_norm = layer_norm("attention_norm", policy)
        self.intermediate = dense(intermediate_dim, "intermediate", initialization, seed, policy, gelu)
        self.projection = dense(hidden_dim, "output", initialization, seed, policy)
        self.output_norm = layer_norm("output_norm", policy)
        self.attention_drop = Dropout(dropout, seed=derive_seed(seed, "attention_dropout"), dtype=policy)
        self.output_drop = Dropout(dropout, seed=derive_seed(seed, "output_dropout"), dtype=policy)

    def build(self, inputs_shape):
        """Makes the weights."""
        stream_shape = (None, self.hidden_dim)
        self.attention.build(stream_shape)
        self.attention_norm.build(stream_shape)
        self.intermediate.build(stream_shape)
        self.projection.build((None, self.intermediate_dim))
        self.output_norm.build(stream_shape)

    def call(self, inputs, padding_mask, positions=None, training=None):
        """Returns the next layer's tokens, float (batch * length, hidden_dim), or (batch * picked, hidden_dim).

        Args:
            inputs: float (batch * length, hidden_dim).
            padding_mask: int or bool (batch, length), 1 = real.
            positions: int (batch, picked), in [0, length), the tokens that are wanted, which all attend to every token; None for all.
            training: whether dropout acts.
        """
        mixed = self.attention(inputs, padding_mask, positions, training=training)
        if positions is not None:
            inputs = gather_tokens(inputs, positions, ops.shape(padding_mask)[1])
        tokens = self.attention_norm(inputs + self.attention_drop(mixed, training=training))
        wide = self.intermediate(tokens)
        return self.output_norm(tokens + self.output_drop(self.projection(wide), training=training))

    def compute_output_spec(self, inputs, padding_mask, positions=None, training=None):
        """Returns the symbolic output."""
        return keras.KerasTensor((None, self.hidden_dim), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("hidden_dim", "num_heads", "intermediate_dim", "attention_dropout", "initialization", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "dropout": self.dropout_rate}


@keras.saving.register_keras_serializable(package="electra_keras")
class Dense(keras.layers.Dense):
    """Keras' Dense on the token stream, by the backend's fastest matrix product."""

    def call(self, inputs, training=None):
        """Returns float (tokens, units) for float (tokens, features)."""
        weights = (ops.convert_to_tensor(weight, dtype=self.compute_dtype) for weight in (self.kernel, self.bias))
        if self.activation is gelu:
            return dense_gelu(inputs, *weights)
        return self.activation(dense_product(inputs, *weights))


def dense(units, name, initialization, seed, policy, activation=None) -> Dense:
    """Returns a dense layer whose initial matrix follows from the seed and the layer's name.

    Args:
        units: width of the result.
        name: of the layer.
        initialization: "truncated_normal", "glorot_uniform" or "fan_in".
        seed: seed of the initial matrix, with the name.
        policy: Keras' dtype policy.
        activation: of the result; None for none.
    """
    initializer = matrix_initializer(initialization, derive_seed(seed, name))
    return Dense(units, activation=activation, kernel_initializer=initializer, dtype=policy, name=name)


def layer_norm(name, policy) -> LayerNormalization:
    """Returns a LayerNorm with ELECTRA's epsilon; it computes in float32 under every policy."""
    return LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=policy, name=name)
