"""The embeddings: word, position and segment, their LayerNorm, and the way back from vectors to logits."""

import keras
from keras import ops

from electra_keras.errors import ConfigError
from electra_keras.modeling.constants import LAYER_NORM_EPSILON, NUM_SEGMENTS
from electra_keras.modeling.initializers import SeededNormal, derive_seed
from electra_keras.modeling.kernels.dropout import Dropout
from electra_keras.modeling.kernels.embedding import add_positions_and_segments
from electra_keras.modeling.kernels.matmul import tied_logits
from electra_keras.modeling.kernels.normalization import LayerNormalization


@keras.saving.register_keras_serializable(package="electra_keras")
class Embeddings(keras.layers.Layer):
    """Token vectors of the embedding size, normalised; both encoders may share one such layer.

    One layer is called up to three times in a graph, told apart by `mode`, so that the tie between input and output
    embeddings is an edge of the graph and every sharing of weights is visible in it.

    Args:
        vocab_size: number of token ids.
        embedding_dim: width of the vectors.
        max_positions: longest sequence, in tokens.
        dropout: chance of zeroing a unit in training.
        initialization: "truncated_normal" (standard deviation 0.02) or "zeros", for a difference to other embeddings.
        seed: seed of the initial weights and of dropout.
        kwargs: name and dtype of the layer.
    """

    def __init__(self, vocab_size, embedding_dim, max_positions, *, dropout=0.0, initialization="truncated_normal", seed=0, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.max_positions = max_positions
        self.dropout_rate = dropout
        self.initialization = initialization
        self.seed = seed
        self.word = keras.layers.ReversibleEmbedding(
            vocab_size, embedding_dim, embeddings_initializer=self._initializer("word"), dtype=self.dtype_policy, name="word"
        )
        self.position = keras.layers.Embedding(
            max_positions, embedding_dim, embeddings_initializer=self._initializer("position"), dtype=self.dtype_policy, name="position"
        )
        self.segment = keras.layers.Embedding(
            NUM_SEGMENTS, embedding_dim, embeddings_initializer=self._initializer("segment"), dtype=self.dtype_policy, name="segment"
        )
        self.norm = LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype_policy, name="norm")
        self.drop = Dropout(dropout, seed=derive_seed(seed, "dropout"), dtype=self.dtype_policy, name="dropout")

    def _initializer(self, name):
        if self.initialization == "zeros":
            return keras.initializers.Zeros()
        return SeededNormal(0.02, derive_seed(self.seed, name))

    def build(self, *shapes):
        """Makes the weights, which depend on no input's shape."""
        for table in (self.word, self.position, self.segment):
            table.build((None, None))
        self.norm.build((None, None, self.embedding_dim))

    def call(self, inputs, segment_ids=None, addend=None, mode="embed", training=None):
        """Embeds tokens, or turns vectors into logits.

        Args:
            inputs: int (batch, length) token ids, or for mode "logits" float (..., embedding_dim).
            segment_ids: int (batch, length), 0 or 1; unused for mode "logits".
            addend: float (batch, length, embedding_dim), added before the LayerNorm; None for nothing.
            mode: "embed" for normalised vectors, "sum" for the vectors before LayerNorm and dropout, "logits" for the product
                with the word embeddings.
            training: whether dropout acts.

        Returns:
            float (batch, length, embedding_dim), or for mode "logits" (..., vocab_size).

        Raises:
            ConfigError: the sequence is longer than the position embeddings serve.
        """
        if mode == "logits":
            return tied_logits(inputs, ops.convert_to_tensor(self.word.embeddings, dtype=self.compute_dtype))
        total = self._sum(inputs, segment_ids)
        if addend is not None:
            total = total + addend
        return total if mode == "sum" else self.drop(self.norm(total), training=training)

    def _sum(self, token_ids, segment_ids):
        length = ops.shape(token_ids)[1]
        if isinstance(length, int) and length > self.max_positions:
            raise ConfigError(
                f"A sequence of {length} tokens is longer than the {self.max_positions} positions of the model; "
                "shorten it or raise model.max_positions."
            )
        segments = ops.convert_to_tensor(self.segment.embeddings)
        positions = ops.convert_to_tensor(self.position.embeddings)[:length]
        return add_positions_and_segments(self.word(token_ids), positions, segments, segment_ids)

    def compute_output_spec(self, inputs, segment_ids=None, addend=None, mode="embed", training=None):
        """Returns the symbolic output."""
        if mode == "logits":
            return keras.KerasTensor((*inputs.shape[:-1], self.vocab_size), dtype=self.compute_dtype)
        return keras.KerasTensor((*inputs.shape, self.embedding_dim), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        config = super().get_config()
        names = ("vocab_size", "embedding_dim", "max_positions", "initialization", "seed")
        return {**config, **{name: getattr(self, name) for name in names}, "dropout": self.dropout_rate}
