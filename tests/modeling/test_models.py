import math

import keras
import numpy as np
import pytest

from electra_keras.errors import ConfigError
from electra_keras.interop.layout import EncoderSize
from electra_keras.modeling import transformer
from electra_keras.modeling.kernels.xla import jax_compiles_for_cpu
from electra_keras.modeling.models import (
    build_discriminator,
    build_embeddings,
    build_encoder,
    build_generator,
    build_masked_language_model,
)
from electra_keras.modeling.weights import named_weights

pytestmark = pytest.mark.backend

VOCAB_SIZE = 10
SHARINGS = ["shared", "disentangled", "none"]


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def build_pair(config, seed=0):
    embeddings = build_embeddings(config, VOCAB_SIZE, seed)
    return tuple(build(config, VOCAB_SIZE, embeddings=embeddings, seed=seed) for build in (build_generator, build_discriminator))


def perturb(model):
    """Gives every weight a random value, so that no bias is 0 and no difference vanishes."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(0, 0.3, variable.shape).astype(np.float32))


def dtype_of_logits(policy):
    """The policy's width, but for JAX' products of bfloat16 on CPUs, which come in float32 and stay so."""
    return "float32" if policy == "mixed_bfloat16" and jax_compiles_for_cpu() else policy.removeprefix("mixed_")


def test_shapes_and_dtypes(config, batch, token_inputs):
    generator, discriminator = build_pair(config)
    assert generator(batch).shape == (2, 3, VOCAB_SIZE)
    logits = discriminator(token_inputs)
    assert logits.shape == (2, 7)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert build_encoder(config, VOCAB_SIZE)(token_inputs).shape == (2, 7, config.hidden_dim)
    assert build_masked_language_model(config, VOCAB_SIZE)(batch).shape == (2, 3, VOCAB_SIZE)
    assert generator.output_shape == (None, None, VOCAB_SIZE)
    assert discriminator.output_shape == (None, None)


def count(config, shape, head):
    """Counts an encoder's weights as other libraries name them."""
    size = EncoderSize(VOCAB_SIZE, config.embedding_dim, config.max_positions, **shape)
    return sum(math.prod(dims) for dims in size.weight_shapes(head).values())


@pytest.mark.parametrize("sharing", SHARINGS)
def test_built_models_have_the_weights_of_the_layout(config_with, sharing):
    config = config_with(embedding_sharing=sharing)
    full, small = config.discriminator_shape(), config.generator_shape()
    # A difference is a second set of embeddings: word, position and segment, and the LayerNorm's two rows.
    difference = (VOCAB_SIZE + config.max_positions + 2 + 2) * config.embedding_dim if sharing == "disentangled" else 0
    assert build_generator(config, VOCAB_SIZE).count_params() == count(config, small, "masked_lm")
    assert build_discriminator(config, VOCAB_SIZE).count_params() == count(config, full, "detection") + difference
    assert build_masked_language_model(config, VOCAB_SIZE).count_params() == count(config, full, "masked_lm")


def test_no_projection_where_the_widths_agree(config_with, token_inputs):
    config = config_with(embedding_dim=12, generator_width_fraction=1.0)
    discriminator = build_discriminator(config, VOCAB_SIZE)
    assert "embeddings_project" not in {layer.name for layer in discriminator.layers}
    assert discriminator.count_params() == count(config, config.discriminator_shape(), "detection")
    assert discriminator(token_inputs).shape == (2, 7)


def test_padding_changes_nothing_at_real_tokens(config, token_inputs):
    discriminator = build_discriminator(config, VOCAB_SIZE)
    perturb(discriminator)
    full = numpy_of(discriminator(token_inputs))
    short = {name: values[1:, :4] for name, values in token_inputs.items()}
    np.testing.assert_allclose(full[1:, :4], numpy_of(discriminator(short)), atol=1e-5)
    other = {**token_inputs, "token_ids": np.where(token_inputs["padding_mask"] == 1, token_inputs["token_ids"], 5)}
    np.testing.assert_allclose(full[1, :4], numpy_of(discriminator(other))[1, :4], atol=1e-6)


def test_logits_stand_at_their_mask_positions(config, batch):
    generator = build_generator(config, VOCAB_SIZE)
    perturb(generator)
    logits = numpy_of(generator(batch))
    for row in range(2):
        for column, position in enumerate(batch["mask_positions"][row]):
            single = {name: values[row : row + 1] for name, values in batch.items()} | {"mask_positions": np.array([[position]], np.int32)}
            np.testing.assert_allclose(logits[row, column], numpy_of(generator(single))[0, 0], atol=1e-5)


def test_prediction_runs_compiled_at_several_lengths(config, token_inputs):
    discriminator = build_discriminator(config, VOCAB_SIZE)
    perturb(discriminator)
    for length in (7, 5):
        part = {name: values[:, :length] for name, values in token_inputs.items()}
        np.testing.assert_allclose(discriminator.predict(part, verbose=0), numpy_of(discriminator(part)), atol=2e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow's graphs have unknown sizes")
def test_graph_with_unknown_batch_and_length(config, batch):
    import tensorflow as tf

    generator = build_generator(config, VOCAB_SIZE)
    signature = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in batch}
    graph = tf.function(generator, input_signature=[signature], autograph=False)
    np.testing.assert_allclose(numpy_of(graph(batch)), numpy_of(generator(batch)), atol=1e-5)


def test_a_sequence_beyond_the_positions_is_refused(config):
    too_long = np.ones((1, 17), dtype=np.int32)
    with pytest.raises(ConfigError, match="17 tokens"):
        build_discriminator(config, VOCAB_SIZE)({"token_ids": too_long, "segment_ids": too_long, "padding_mask": too_long})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bit_policies_stay_near_float32(config, batch, token_inputs, policy, compiled):
    exact = build_pair(config)
    embeddings = build_embeddings(config, VOCAB_SIZE, dtype=policy)
    generator = build_generator(config, VOCAB_SIZE, embeddings=embeddings, dtype=policy)
    discriminator = build_discriminator(config, VOCAB_SIZE, embeddings=embeddings, dtype=policy)
    for low, high in zip((generator, discriminator), exact, strict=True):
        perturb(high)
        perturb(low)
        assert all(variable.dtype == "float32" for variable in low.weights)
    tensors = {name: keras.ops.convert_to_tensor(values) for name, values in batch.items()}
    logits = compiled(lambda inputs: generator(inputs, training=False))(tensors)
    assert keras.backend.standardize_dtype(logits.dtype) == dtype_of_logits(policy)
    detection = discriminator(token_inputs)
    assert keras.backend.standardize_dtype(detection.dtype) == "float32"
    tolerance = 0.2 if policy == "mixed_bfloat16" else 0.03
    np.testing.assert_allclose(numpy_of(keras.ops.cast(logits, "float32")), numpy_of(exact[0](batch)), atol=tolerance)
    np.testing.assert_allclose(numpy_of(detection), numpy_of(exact[1](token_inputs)), atol=tolerance)


def test_attention_takes_its_vectors_in_the_policys_width(config, token_inputs, compiled, monkeypatch):
    # JAX' product of bfloat16 matrices comes in float32, for which attention has another form.
    found = []

    def attend(query, key, value, *others):
        found.extend(keras.backend.standardize_dtype(part.dtype) for part in (query, key, value))
        return transformer_attend(query, key, value, *others)

    transformer_attend = transformer.attend
    monkeypatch.setattr(transformer, "attend", attend)
    discriminator = build_discriminator(config, VOCAB_SIZE, dtype="mixed_bfloat16")
    found.clear()
    compiled(lambda inputs: discriminator(inputs))({name: keras.ops.convert_to_tensor(values) for name, values in token_inputs.items()})
    assert found == ["bfloat16"] * 3 * config.num_layers


def test_the_global_policy_is_followed(config, batch):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        generator = build_generator(config, VOCAB_SIZE)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(generator(batch).dtype) == dtype_of_logits("mixed_bfloat16")


def test_dropout_acts_in_training_only_and_follows_the_seed(config_with, token_inputs):
    config = config_with(dropout=0.3, attention_dropout=0.3)
    first, second, other = (build_discriminator(config, VOCAB_SIZE, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(numpy_of(first(token_inputs)), numpy_of(first(token_inputs, training=False)))
    draw = numpy_of(first(token_inputs, training=True))
    np.testing.assert_array_equal(draw, numpy_of(second(token_inputs, training=True)))
    assert (draw != numpy_of(first(token_inputs, training=True))).any()
    assert (draw != numpy_of(other(token_inputs, training=True))).any()


@pytest.mark.parametrize("field", ["dropout", "attention_dropout"])
def test_each_dropout_acts_alone(config_with, field, token_inputs):
    discriminator = build_discriminator(config_with(**{field: 0.5}), VOCAB_SIZE)
    perturb(discriminator)
    assert np.abs(numpy_of(discriminator(token_inputs, training=True)) - numpy_of(discriminator(token_inputs))).max() > 1e-3


def test_every_dropout_has_a_seed_of_its_own(config_with):
    generator, discriminator = build_pair(config_with(dropout=0.1, attention_dropout=0.1))
    states = {id(variable): tuple(numpy_of(variable)) for model in (generator, discriminator) for variable in model.non_trainable_variables}
    # The shared embeddings' one, and three for each of two layers of both models.
    assert len(states) == len(set(states.values())) == 1 + 2 * 2 * 3


def test_initial_weights_are_the_same_on_every_backend(config):
    # Fixed numbers, so that the three backends' runs of this test compare with one another.
    generator, discriminator = build_pair(config, seed=4)
    weights = named_weights({"generator": generator, "discriminator": discriminator})
    checksum = sum(np.abs(numpy_of(variable).astype(np.float64)).sum() for name, variable in weights.items() if "norm" not in name)
    assert checksum == pytest.approx(76.73916684118785, rel=1e-7)
    assert numpy_of(weights["discriminator/layer_1/attention/qkv/kernel"])[0, 0] == pytest.approx(-0.019133925, rel=1e-6)


def test_initialisation_is_the_papers_or_follows_the_inputs(config_with):
    for initialization, deviation in (("truncated_normal", 0.02), ("fan_in", 1 / np.sqrt(64))):
        config = config_with(hidden_dim=64, num_heads=2, generator_width_fraction=0.5, initialization=initialization)
        weights = named_weights({"discriminator": build_discriminator(config, VOCAB_SIZE)})
        kernel = numpy_of(weights["discriminator/layer_0/attention/qkv/kernel"])
        assert kernel.std() == pytest.approx(0.8796 * deviation, rel=0.02)
        assert np.abs(numpy_of(weights["embeddings/word/embeddings"])).max() <= 0.04
        assert not numpy_of(weights["discriminator/layer_0/attention/qkv/bias"]).any()
        assert (numpy_of(weights["discriminator/layer_0/output_norm/gamma"]) == 1).all()


def test_the_matrices_without_an_initializer_in_the_original_start_as_tensorflows_do(config_with):
    # model/modeling.py passes none to embeddings_project, run_pretraining.py none to the discriminator's last dense layer.
    limits = {
        "generator/embeddings_project/kernel": (6 / (48 + 32)) ** 0.5,
        "discriminator/embeddings_project/kernel": (6 / (48 + 64)) ** 0.5,
        "discriminator/detection_head/prediction/kernel": (6 / (64 + 1)) ** 0.5,
    }
    shape = {"hidden_dim": 64, "num_heads": 2, "embedding_dim": 48, "generator_width_fraction": 0.5}
    generator, discriminator = build_pair(config_with(**shape))
    weights = named_weights({"generator": generator, "discriminator": discriminator})
    for name, variable in weights.items():
        if name.endswith(("/kernel", "/embeddings")):
            largest = np.abs(numpy_of(variable)).max()
            assert largest == pytest.approx(limits[name], rel=0.1) if name in limits else largest <= 0.04, name
    scaled = named_weights({"discriminator": build_discriminator(config_with(**shape, initialization="fan_in"), VOCAB_SIZE)})
    assert np.abs(numpy_of(scaled["discriminator/embeddings_project/kernel"])).max() == pytest.approx(2 / 48**0.5, rel=0.1)


def test_the_encoder_is_the_discriminators(config, token_inputs):
    encoder = named_weights({"discriminator": build_encoder(config, VOCAB_SIZE, seed=3)})
    discriminator = named_weights({"discriminator": build_discriminator(config, VOCAB_SIZE, seed=3)})
    assert set(discriminator) - set(encoder) == {name for name in discriminator if "detection_head" in name}
    for name, variable in encoder.items():
        np.testing.assert_array_equal(numpy_of(variable), numpy_of(discriminator[name]))


def test_layers_come_back_from_their_configuration(config_with):
    generator, discriminator = build_pair(config_with(dropout=0.1, attention_dropout=0.2, initialization="fan_in"))
    for layer in (*generator.layers, *discriminator.layers):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("sharing", SHARINGS)
def test_models_come_back_from_their_configuration(config_with, sharing, batch, token_inputs):
    inputs = {"generator": batch, "discriminator": token_inputs}
    for model in build_pair(config_with(embedding_sharing=sharing, dropout=0.1)):
        again = keras.Model.from_config(model.get_config())
        assert again.count_params() == model.count_params()
        perturb(model)
        again.set_weights(model.get_weights())
        values = inputs[model.name]
        np.testing.assert_allclose(numpy_of(again(values)), numpy_of(model(values)), atol=1e-6)
