import keras
import numpy as np
import pytest

from electra_keras.errors import RunError
from electra_keras.modeling.models import build_discriminator, build_embeddings, build_generator
from electra_keras.modeling.weights import load_named_weights, named_weights

pytestmark = pytest.mark.backend


def build_models(config, seed=0):
    embeddings = build_embeddings(config, 10, seed)
    return {
        "generator": build_generator(config, 10, embeddings=embeddings, seed=seed),
        "discriminator": build_discriminator(config, 10, embeddings=embeddings, seed=seed),
    }


def arrays_of(models):
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in named_weights(models).items()}


def test_names_are_fixed(config_with):
    names = list(named_weights({"generator": build_generator(config_with(num_layers=1, dropout=0.1), 10)}))
    assert names == [
        "embeddings/word/embeddings",
        "embeddings/position/embeddings",
        "embeddings/segment/embeddings",
        "embeddings/norm/gamma",
        "embeddings/norm/beta",
        "generator/embeddings_project/kernel",
        "generator/embeddings_project/bias",
        "generator/layer_0/attention/qkv/kernel",
        "generator/layer_0/attention/qkv/bias",
        "generator/layer_0/attention/output/kernel",
        "generator/layer_0/attention/output/bias",
        "generator/layer_0/attention_norm/gamma",
        "generator/layer_0/attention_norm/beta",
        "generator/layer_0/intermediate/kernel",
        "generator/layer_0/intermediate/bias",
        "generator/layer_0/output/kernel",
        "generator/layer_0/output/bias",
        "generator/layer_0/output_norm/gamma",
        "generator/layer_0/output_norm/beta",
        "generator/masked_lm_head/dense/kernel",
        "generator/masked_lm_head/dense/bias",
        "generator/masked_lm_head/norm/gamma",
        "generator/masked_lm_head/norm/beta",
        "generator/output_bias/bias",
    ]


@pytest.mark.parametrize("sharing", ["shared", "disentangled", "none"])
def test_every_trainable_weight_has_one_name_whatever_stands_beside_it(config_with, sharing):
    models = build_models(config_with(embedding_sharing=sharing, dropout=0.1, attention_dropout=0.1))
    together = named_weights(models)
    assert {id(variable) for variable in together.values()} == {id(variable) for model in models.values() for variable in model.weights}
    assert len({id(variable) for variable in together.values()}) == len(together)
    alone = {name for key, model in models.items() for name in named_weights({key: model})}
    assert alone == set(together)


def test_names_do_not_depend_on_what_was_built_before(config):
    first = list(named_weights(build_models(config)))
    build_models(config)
    assert list(named_weights(build_models(config))) == first


def test_models_that_do_not_share_cannot_have_shared_names(config):
    models = {"generator": build_generator(config, 10), "discriminator": build_discriminator(config, 10)}
    with pytest.raises(ValueError, match="embeddings/word/embeddings"):
        named_weights(models)


def test_round_trip_is_bitwise(config):
    saved = build_models(config, seed=1)
    arrays = arrays_of(saved)
    restored = build_models(config, seed=2)
    load_named_weights(restored, arrays)
    for name, values in arrays_of(restored).items():
        assert values.tobytes() == arrays[name].tobytes()


def test_one_model_can_be_loaded_from_the_weights_of_both(config, token_inputs):
    saved = build_models(config, seed=1)
    discriminator = build_discriminator(config, 10, seed=2)
    with pytest.raises(RunError, match="the model has no generator/"):
        load_named_weights({"discriminator": discriminator}, arrays_of(saved))
    load_named_weights({"discriminator": discriminator}, arrays_of(saved), ignore_extra=True)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(discriminator(token_inputs)), keras.ops.convert_to_numpy(saved["discriminator"](token_inputs))
    )


@pytest.mark.parametrize(
    ("held", "wanted", "remedy"),
    [
        ("discriminator", ["generator", "discriminator"], r"no generator\. Import the run again with its generator"),
        ("generator", ["generator", "discriminator"], r"no discriminator\. Use a run that was trained with the same objective\.name"),
        ("generator", ["encoder"], r"no encoder\. Use a run that was trained with the same objective\.name"),
    ],
)
def test_where_a_model_is_not_in_the_weights_the_remedy_is_one_that_helps(config, held, wanted, remedy):
    models = build_models(config)
    arrays = {name: values for name, values in arrays_of(models).items() if name.startswith(held)}
    with pytest.raises(RunError, match=remedy):
        load_named_weights(dict.fromkeys(wanted, models["generator"]), arrays)


def test_of_many_shapes_that_do_not_fit_a_few_are_named(config):
    models = build_models(config)
    arrays = {name: np.zeros((3, 5, 7), np.float32) for name in arrays_of(models)}
    with pytest.raises(RunError, match=rf"\(3, 5, 7\) and not .* and {len(arrays) - 5} more\. Use the configuration"):
        load_named_weights(models, arrays)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_what_does_not_fit_is_named_and_nothing_changes(config, fault):
    arrays = arrays_of(build_models(config, seed=1))
    name = "generator/output_bias/bias"
    if fault == "missing":
        del arrays[name]
    elif fault == "extra":
        name = "generator/layer_9/output/bias"
        arrays[name] = np.zeros(4, dtype=np.float32)
    else:
        arrays[name] = np.zeros(11, dtype=np.float32)
    models = build_models(config, seed=2)
    before = arrays_of(models)
    with pytest.raises(RunError, match=name):
        load_named_weights(models, arrays)
    for key, values in arrays_of(models).items():
        np.testing.assert_array_equal(values, before[key])
