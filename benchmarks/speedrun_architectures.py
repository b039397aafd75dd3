"""Encoders that depart from ELECTRA's, for benchmarks/speedrun.py: what they learn can be exported to nothing."""

import dataclasses
import math
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from electra_keras.config import Config
from electra_keras.modeling.kernels.activation import gelu
from electra_keras.modeling.token_stream import gather_tokens
from electra_keras.modeling.transformer import SelfAttention, TransformerBlock, dense, layer_norm
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives.protocol import Models, Objective
from electra_keras.training.neighbor_attention import OFFSETS, RANDOM_SHARE

# Su et al. 2021, "RoFormer", section 3.2.2.
ROTARY_BASE = 10_000.0
# A gate is a third matrix; at two thirds of the width the three hold as many numbers as two did (Shazeer 2020, "GLU variants").
GATED_WIDTH = 2.0 / 3.0
# Of widths, so that the products of bfloat16 take their fast form.
WIDTH_STEP = 8
# Rotations that make a head look at a neighbour; the slower ones turn too little from a token to the next.
NUM_NEIGHBOR_ROTATIONS = 4
# By how much the scores of the tokens beside the neighbour lie below its own, about as in electra_keras.training.neighbor_attention.
NEIGHBOR_CONTRAST = 6.0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """In what an encoder departs from ELECTRA's.

    Attributes:
        rotary: positions turn query and key in every layer, and are not added to the embeddings.
        gated: the feed-forward's hidden units are multiplied by a second projection of its inputs.
        unbiased: the layers' biases, those of their LayerNorms too, are held at 0.
        norm_first: LayerNorm precedes attention and feed-forward, and one more follows the last layer.
    """

    rotary: bool = False
    gated: bool = False
    unbiased: bool = False
    norm_first: bool = False


class RotaryAttention(SelfAttention):
    """Self-attention whose scores know by how much two tokens lie apart, by rotated queries and keys."""

    def heads(self, inputs, length):
        """Returns query, key and value, float (batch, length, heads, head_dim) each."""
        query, key, value = super().heads(inputs, length)
        return rotated(query), rotated(key), value


def rotary_frequencies(head_dim: int) -> np.ndarray:
    """Returns float32 (head_dim / 2,), radians a position, fastest first."""
    return (ROTARY_BASE ** (-np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)


def rotated(heads):
    """Turns every pair of dimensions (i, i + head_dim / 2) by its frequency times the position; computes in float32.

    Args:
        heads: float (batch, length, heads, head_dim).

    Returns:
        The same shape and dtype.
    """
    positions = ops.cast(ops.arange(ops.shape(heads)[1]), "float32")
    angles = ops.expand_dims(positions, 1) * ops.convert_to_tensor(rotary_frequencies(heads.shape[-1]))
    cosine, sine = (ops.expand_dims(table, 1) for table in (ops.cos(angles), ops.sin(angles)))
    first, second = ops.split(ops.cast(heads, "float32"), 2, axis=-1)
    turned = ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return ops.cast(turned, heads.dtype)


class OtherBlock(keras.layers.Layer):
    """A Transformer block of another architecture, with the names, seeds and widths of one of ELECTRA's.

    Args:
        block: ELECTRA's, whose LayerNorms and dropouts become parts of this one.
        architecture: what is different.
        is_last: whether no block follows.
    """

    def __init__(self, block: TransformerBlock, architecture: Architecture, is_last: bool):
        super().__init__(name=block.name, dtype=block.dtype_policy)
        self.architecture = architecture
        self.hidden_dim = block.hidden_dim
        self.intermediate_dim = gated_width(block.intermediate_dim) if architecture.gated else block.intermediate_dim
        self.attention = RotaryAttention.from_config(block.attention.get_config()) if architecture.rotary else block.attention
        self.attention_norm, self.output_norm = block.attention_norm, block.output_norm
        self.attention_drop, self.output_drop = block.attention_drop, block.output_drop

        def matrix(units, name, activation=None):
            return dense(units, name, block.initialization, block.seed, block.dtype_policy, activation)

        self.intermediate = matrix(self.intermediate_dim, "intermediate", gelu)
        self.gate = matrix(self.intermediate_dim, "gate") if architecture.gated else None
        self.projection = matrix(self.hidden_dim, "output")
        self.last_norm = layer_norm("last_norm", block.dtype_policy) if is_last and architecture.norm_first else None

    def build(self, inputs_shape):
        """Makes the weights that ELECTRA's block has not."""
        stream_shape = (None, self.hidden_dim)
        for layer in (self.attention, self.intermediate, self.gate, self.last_norm):
            if layer is not None and not layer.built:
                layer.build(stream_shape)
        self.projection.build((None, self.intermediate_dim))

    def call(self, inputs, padding_mask, positions=None, training=None):
        """Returns the next layer's tokens, as `TransformerBlock` does."""
        normalised = self.attention_norm(inputs) if self.architecture.norm_first else inputs
        mixed = self.attention_drop(self.attention(normalised, padding_mask, positions, training=training), training=training)
        if positions is not None:
            inputs = gather_tokens(inputs, positions, ops.shape(padding_mask)[1])
        tokens = inputs + mixed
        if not self.architecture.norm_first:
            tokens = self.attention_norm(tokens)
            return self.output_norm(tokens + self.output_drop(self._feed_forward(tokens), training=training))
        tokens = tokens + self.output_drop(self._feed_forward(self.output_norm(tokens)), training=training)
        return tokens if self.last_norm is None else self.last_norm(tokens)

    def _feed_forward(self, tokens):
        wide = self.intermediate(tokens)
        return self.projection(wide if self.gate is None else wide * self.gate(tokens))

    def compute_output_spec(self, inputs, padding_mask, positions=None, training=None):
        """Returns the symbolic output."""
        return keras.KerasTensor((None, self.hidden_dim), dtype=self.compute_dtype)


def gated_width(intermediate_dim: int) -> int:
    """Returns the hidden units of a gated feed-forward that is as large as an ungated one, to the next WIDTH_STEP."""
    return math.ceil(GATED_WIDTH * intermediate_dim / WIDTH_STEP) * WIDTH_STEP


def restructured(models: Models, architecture: Architecture) -> dict[str, keras.Model]:
    """Returns models whose blocks are of another architecture; embeddings and heads are those given.

    With rotary positions those of the embeddings are held at 0, and of all encoders but the generator the first layer's heads start at
    their neighbours, by the biases of query and key where there are any, as `modern`'s do by the embeddings.

    Args:
        models: of an objective, freshly built.
        architecture: what is different.
    """
    changed = {}
    for name, model in models.items():
        last = [layer for layer in model.layers if isinstance(layer, TransformerBlock)][-1]

        def replace(layer, last=last):
            return OtherBlock(layer, architecture, layer is last) if isinstance(layer, TransformerBlock) else layer

        changed[name] = keras.models.clone_model(model, clone_function=replace)
    for name, variable in named_weights(changed).items():
        if architecture.unbiased and "/layer_" in name and name.endswith(("/bias", "/beta")):
            hold_at_zero(variable)
        if architecture.rotary and name.endswith("/position/embeddings"):
            hold_at_zero(variable)
    if architecture.rotary and not architecture.unbiased:
        for name, model in changed.items():
            if name != "generator":
                look_at_neighbors(model.get_layer("layer_0").attention)
    return changed


def hold_at_zero(variable: keras.Variable) -> None:
    """Sets a weight to 0, where training leaves it."""
    variable.assign(np.zeros(variable.shape, np.float32))
    variable.trainable = False


def look_at_neighbors(attention: RotaryAttention) -> None:
    """Sets a layer's query, key and their biases so that its heads begin at OFFSETS, whatever the tokens are."""
    qkv, hidden_dim, num_heads = attention.qkv, attention.hidden_dim, attention.num_heads
    chosen = min(len(OFFSETS), num_heads) * (hidden_dim // num_heads)
    kernel, bias = (np.array(ops.convert_to_numpy(variable.value)) for variable in (qkv.kernel, qkv.bias))
    for start, values in zip((0, hidden_dim), neighbor_biases(hidden_dim // num_heads, num_heads), strict=True):
        kernel[:, start : start + chosen] *= RANDOM_SHARE
        bias[start : start + chosen] = values.ravel()
    qkv.kernel.assign(kernel)
    qkv.bias.assign(bias)


def neighbor_biases(head_dim: int, num_heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the biases of query and key, float32 (set heads, head_dim), with which a head attends to its offset.

    A query of (cos a, sin a) and a key of (1, 0), turned by their positions i and j, have the product cos(a + (i - j) f), which is
    largest at j = i + offset where a = offset * f.
    """
    frequencies = rotary_frequencies(head_dim)[:NUM_NEIGHBOR_ROTATIONS]
    count, half = len(frequencies), head_dim // 2
    scale = math.sqrt(NEIGHBOR_CONTRAST * math.sqrt(head_dim) / np.sum(1.0 - np.cos(frequencies)))
    offsets = OFFSETS[:num_heads]
    query, key = (np.zeros((len(offsets), head_dim), np.float32) for _ in range(2))
    angles = np.outer(offsets, frequencies)
    query[:, :count], query[:, half : half + count] = scale * np.cos(angles), scale * np.sin(angles)
    key[:, :count] = scale
    return query, key


def build_models(objective: Objective, config: Config, vocab_size: int, departures: Mapping[str, bool]) -> Models:
    """Returns an objective's models, restructured where a plan names departures: fields of `Architecture` that are true."""
    models = objective.build_models(config, vocab_size)
    return restructured(models, Architecture(**departures)) if departures else models
