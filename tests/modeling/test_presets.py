import pytest

from electra_keras.modeling.parameter_count import parameter_count
from electra_keras.modeling.presets import PRESETS

VOCAB_SIZE = 30_522
# transformers' count for ElectraForPreTraining in the shape of google/electra-{small,base,large}-discriminator.
PUBLISHED = {"small": 13_549_057, "base": 109_483_009, "large": 335_142_913}


def hugging_face_config(transformers, config, shape):
    return transformers.ElectraConfig(
        vocab_size=VOCAB_SIZE,
        embedding_size=config.embedding_dim,
        hidden_size=shape["hidden_dim"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"],
        intermediate_size=shape["intermediate_dim"],
        max_position_embeddings=config.max_positions,
    )


@pytest.mark.parametrize("name", list(PRESETS))
def test_discriminators_have_the_published_number_of_weights(name):
    rounded = {"small": 13.5e6, "base": 109e6, "large": 335e6}
    count = parameter_count(PRESETS[name], VOCAB_SIZE)
    assert count == PUBLISHED[name]
    assert count == pytest.approx(rounded[name], rel=0.01)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("model", ["generator", "discriminator"])
def test_counts_equal_those_of_transformers(name, model):
    torch = pytest.importorskip("torch", reason="the witness needs torch")
    transformers = pytest.importorskip("transformers", reason="the witness needs transformers")
    config = PRESETS[name]
    shape = {field: getattr(config, field) for field in ("num_layers", "hidden_dim", "num_heads", "intermediate_dim")}
    if model == "generator":
        shape = config.generator_shape()
    witness = transformers.ElectraForMaskedLM if model == "generator" else transformers.ElectraForPreTraining
    with torch.device("meta"):
        expected = witness(hugging_face_config(transformers, config, shape)).num_parameters()
    assert parameter_count(config, VOCAB_SIZE, model) == expected


def test_generators_are_the_papers():
    # Table 6: size, heads and feed-forward of the discriminator times 1/4, 1/3, 1/4.
    sizes = {name: tuple(PRESETS[name].generator_shape().values()) for name in PRESETS}
    assert sizes == {"small": (12, 64, 1, 256), "base": (12, 256, 4, 1024), "large": (24, 256, 4, 1024)}


@pytest.mark.parametrize("name", list(PRESETS))
def test_heads_are_64_wide(name):
    assert PRESETS[name].hidden_dim / PRESETS[name].num_heads == 64


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["small"] = PRESETS["base"]


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="critic"):
        parameter_count(PRESETS["small"], 10, "critic")
