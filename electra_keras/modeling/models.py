"""The models as Keras Functional graphs: encoder, generator, discriminator, masked language model.

Every builder reads in three parts: inputs, graph, model. Layers are named so that `weights.named_weights` can tell which
weights belong to both encoders: a layer called "embeddings" does, one called "own_embeddings" does not.
"""

import keras

from electra_keras.config import ModelConfig
from electra_keras.modeling.embeddings import Embeddings
from electra_keras.modeling.heads import DetectionHead, MaskedLMHead, OutputBias
from electra_keras.modeling.initializers import derive_seed, without_initializer
from electra_keras.modeling.token_stream import FlattenTokens, RestoreTokens
from electra_keras.modeling.transformer import TransformerBlock, dense


def build_embeddings(
    config: ModelConfig,
    vocab_size: int,
    seed: int = 0,
    name: str = "embeddings",
    *,
    initialization: str = "truncated_normal",
    dtype: str | None = None,
) -> Embeddings:
    """Builds an embeddings layer with its weights.

    Args:
        config: embedding_dim, max_positions and dropout are used.
        vocab_size: number of token ids.
        seed: of the initial weights and dropout; one seed and name give the same weights on every backend.
        name: "embeddings" when both encoders use it.
        initialization: "truncated_normal" or "zeros".
        dtype: Keras dtype policy; None for the global one.
    """
    embeddings = Embeddings(
        vocab_size,
        config.embedding_dim,
        config.max_positions,
        dropout=config.dropout,
        initialization=initialization,
        seed=derive_seed(seed, name),
        dtype=dtype,
        name=name,
    )
    embeddings.build()
    return embeddings


def build_encoder(
    config: ModelConfig,
    vocab_size: int,
    *,
    embeddings: Embeddings | None = None,
    seed: int = 0,
    dtype: str | None = None,
    name: str = "discriminator",
) -> keras.Model:
    """Builds the discriminator's encoder alone, for fine-tuning.

    Its weights have the names that they have in the discriminator, and from the same seed the same values.

    Args:
        config: the shape.
        vocab_size: number of token ids.
        embeddings: embeddings to share, as `build_embeddings` returns them; None builds them.
        seed: of the initial weights and dropout.
        dtype: Keras dtype policy; None for the global one.
        name: the model's name, which also enters the seeds.

    Returns:
        A model from {token_ids, segment_ids, padding_mask}, int (batch, length), to float (batch, length, hidden_dim).
    """
    inputs = _token_inputs()
    lookup = _discriminator_embeddings(config, vocab_size, embeddings, seed, dtype)
    stream = _encode(inputs, lookup, config.discriminator_shape(), config, derive_seed(seed, name), dtype)
    outputs = RestoreTokens(name="restore", dtype=dtype)(stream, inputs["padding_mask"])
    return keras.Model(inputs, outputs, name=name)


def build_discriminator(
    config: ModelConfig,
    vocab_size: int,
    *,
    embeddings: Embeddings | None = None,
    seed: int = 0,
    dtype: str | None = None,
) -> keras.Model:
    """Builds the discriminator: which tokens have been replaced?

    Args:
        config: the shape, and how embeddings are shared.
        vocab_size: number of token ids.
        embeddings: the generator's embeddings, to share or to add a difference to; None builds them. Unused with
            embedding_sharing "none".
        seed: of the initial weights and dropout.
        dtype: Keras dtype policy; None for the global one.

    Returns:
        A model from {token_ids, segment_ids, padding_mask}, int (batch, length), to logits, float32 (batch, length), before the sigmoid.
    """
    inputs = _token_inputs()
    model_seed = derive_seed(seed, "discriminator")
    lookup = _discriminator_embeddings(config, vocab_size, embeddings, seed, dtype)
    stream = _encode(inputs, lookup, config.discriminator_shape(), config, model_seed, dtype)
    head = DetectionHead(
        config.hidden_dim,
        initialization=config.initialization,
        seed=derive_seed(model_seed, "detection_head"),
        dtype=dtype,
        name="detection_head",
    )
    return keras.Model(inputs, head(stream, inputs["padding_mask"]), name="discriminator")


def build_generator(
    config: ModelConfig,
    vocab_size: int,
    *,
    embeddings: Embeddings | None = None,
    seed: int = 0,
    dtype: str | None = None,
) -> keras.Model:
    """Builds the generator: the small masked language model whose samples replace tokens.

    Args:
        config: the shape; the generator's follows from its fractions.
        vocab_size: number of token ids.
        embeddings: embeddings to share; None builds them. Unused with embedding_sharing "none".
        seed: of the initial weights and dropout.
        dtype: Keras dtype policy; None for the global one.

    Returns:
        A model from {token_ids, segment_ids, padding_mask: int (batch, length), mask_positions: int (batch, masked)} to logits,
        float (batch, masked, vocab_size) in the policy's compute dtype, or under JAX on a CPU in float32, as products of bfloat16 come
        there. Rows that only fill mask_positions up hold [CLS]'s logits.
    """
    return _masked_language_model(config, config.generator_shape(), vocab_size, embeddings, seed, dtype, "generator")


def build_masked_language_model(
    config: ModelConfig,
    vocab_size: int,
    *,
    embeddings: Embeddings | None = None,
    seed: int = 0,
    dtype: str | None = None,
    name: str = "encoder",
) -> keras.Model:
    """Builds an encoder of the discriminator's size with the generator's head, for the objective `mlm`.

    Arguments and result are those of `build_generator`, with the model's name, which also enters the seeds.
    """
    return _masked_language_model(config, config.discriminator_shape(), vocab_size, embeddings, seed, dtype, name)


def _masked_language_model(config, shape, vocab_size, embeddings, seed, dtype, name):
    inputs = _token_inputs()
    inputs["mask_positions"] = keras.Input((None,), dtype="int32", name="mask_positions")
    model_seed = derive_seed(seed, name)
    if config.embedding_sharing == "none":
        embeddings = build_embeddings(config, vocab_size, model_seed, "own_embeddings", dtype=dtype)
    elif embeddings is None:
        embeddings = build_embeddings(config, vocab_size, seed, dtype=dtype)
    masked = _encode(inputs, _embed_with(embeddings), shape, config, model_seed, dtype, positions=inputs["mask_positions"])
    head = MaskedLMHead(
        config.embedding_dim,
        initialization=config.initialization,
        seed=derive_seed(model_seed, "masked_lm_head"),
        dtype=dtype,
        name="masked_lm_head",
    )
    logits = embeddings(head(masked), mode="logits")
    logits = OutputBias(name="output_bias", dtype=dtype)(logits)
    outputs = RestoreTokens(name="restore_masked", dtype=dtype)(logits, inputs["mask_positions"])
    return keras.Model(inputs, outputs, name=name)


def _token_inputs():
    names = ("token_ids", "segment_ids", "padding_mask")
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}


def _embed_with(embeddings):
    return lambda inputs: embeddings(inputs["token_ids"], inputs["segment_ids"])


def _discriminator_embeddings(config, vocab_size, embeddings, seed, dtype):
    """Returns the function from inputs to embedded tokens that `embedding_sharing` names."""
    if config.embedding_sharing == "none":
        own_seed = derive_seed(seed, "discriminator")
        return _embed_with(build_embeddings(config, vocab_size, own_seed, "own_embeddings", dtype=dtype))
    shared = embeddings if embeddings is not None else build_embeddings(config, vocab_size, seed, dtype=dtype)
    if config.embedding_sharing == "shared":
        return _embed_with(shared)
    difference = build_embeddings(config, vocab_size, seed, "embeddings_difference", initialization="zeros", dtype=dtype)

    # Gradient-disentangled sharing (He et al. 2021, DeBERTaV3, section 3.3): the discriminator reads the generator's
    # embeddings without training them, and learns what it wants different.
    def embed(inputs):
        total = shared(inputs["token_ids"], inputs["segment_ids"], mode="sum")
        return difference(inputs["token_ids"], inputs["segment_ids"], addend=keras.ops.stop_gradient(total))

    return embed


def _encode(inputs, embed, shape, config, model_seed, dtype, positions=None):
    """Returns the encoder's output as a stream, float (batch * length, hidden_dim), or at the given positions alone.

    For these the last layer does nothing but mix all tokens into them: at one position in seven, as the generator is read, that layer's
    products are a third.
    """
    stream = FlattenTokens(name="flatten", dtype=dtype)(embed(inputs))
    hidden_dim, num_layers = shape["hidden_dim"], shape["num_layers"]
    if config.embedding_dim != hidden_dim:
        initialization = without_initializer(config.initialization)
        stream = dense(hidden_dim, "embeddings_project", initialization, model_seed, dtype)(stream)
    for index in range(num_layers):
        name = f"layer_{index}"
        stream = TransformerBlock(
            hidden_dim,
            shape["num_heads"],
            shape["intermediate_dim"],
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            initialization=config.initialization,
            seed=derive_seed(model_seed, name),
            dtype=dtype,
            name=name,
        )(stream, inputs["padding_mask"], positions if index == num_layers - 1 else None)
    return stream
