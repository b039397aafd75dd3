import math

import pytest

from electra_keras.interop.layout import EncoderSize
from electra_keras.modeling.presets import PRESETS

VOCAB_SIZE = 30_522
# transformers' count for ElectraForPreTraining in the shape of google/electra-{small,base,large}-discriminator.
PUBLISHED = {"small": 13_549_057, "base": 109_483_009, "large": 335_142_913}


def count(config, shape, head):
    size = EncoderSize(VOCAB_SIZE, config.embedding_dim, config.max_positions, **shape)
    return sum(math.prod(dims) for dims in size.weight_shapes(head).values())


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
    weights = count(PRESETS[name], PRESETS[name].discriminator_shape(), "detection")
    assert weights == PUBLISHED[name]
    assert weights == pytest.approx(rounded[name], rel=0.01)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("model", ["generator", "discriminator"])
def test_counts_equal_those_of_transformers(name, model):
    torch = pytest.importorskip("torch", reason="the witness needs torch")
    transformers = pytest.importorskip("transformers", reason="the witness needs transformers")
    config = PRESETS[name]
    witness, shape, head = {
        "generator": (transformers.ElectraForMaskedLM, config.generator_shape(), "masked_lm"),
        "discriminator": (transformers.ElectraForPreTraining, config.discriminator_shape(), "detection"),
    }[model]
    with torch.device("meta"):
        expected = witness(hugging_face_config(transformers, config, shape)).num_parameters()
    assert count(config, shape, head) == expected


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
