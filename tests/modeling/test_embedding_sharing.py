import keras
import numpy as np
import pytest

from electra_keras.modeling.models import build_discriminator, build_embeddings, build_generator
from electra_keras.modeling.weights import named_weights

pytestmark = pytest.mark.backend

VOCAB_SIZE = 10


@pytest.fixture
def pair_with(config_with):
    def build(sharing):
        config = config_with(embedding_sharing=sharing, num_layers=1)
        embeddings = build_embeddings(config, VOCAB_SIZE)
        models = {
            "generator": build_generator(config, VOCAB_SIZE, embeddings=embeddings),
            "discriminator": build_discriminator(config, VOCAB_SIZE, embeddings=embeddings),
        }
        return models, named_weights(models)

    return build


def gradient_sizes(gradients, model, inputs, weights):
    """Returns the largest absolute gradient of a loss of one model, by the name of the weight."""
    found = gradients(lambda: keras.ops.sum(keras.ops.sin(model(inputs))), list(weights.values()))
    return {name: np.abs(gradient).max() for name, gradient in zip(weights, found, strict=True)}


EMBEDDING_PARTS = ("word/embeddings", "position/embeddings", "segment/embeddings", "norm/gamma", "norm/beta")


def test_shared_embeddings_learn_from_both(pair_with, gradients, batch, token_inputs):
    models, weights = pair_with("shared")
    of_generator = gradient_sizes(gradients, models["generator"], batch, weights)
    of_discriminator = gradient_sizes(gradients, models["discriminator"], token_inputs, weights)
    for part in EMBEDDING_PARTS:
        assert of_generator[f"embeddings/{part}"] > 0
        assert of_discriminator[f"embeddings/{part}"] > 0
    assert all(size == 0 for name, size in of_discriminator.items() if name.startswith("generator/"))
    assert all(size > 0 for name, size in of_discriminator.items() if name.startswith("discriminator/") and "qkv/bias" not in name)


def test_disentangled_embeddings_learn_from_the_generator_alone(pair_with, gradients, batch, token_inputs):
    models, weights = pair_with("disentangled")
    of_generator = gradient_sizes(gradients, models["generator"], batch, weights)
    of_discriminator = gradient_sizes(gradients, models["discriminator"], token_inputs, weights)
    for part in EMBEDDING_PARTS:
        shared, difference = f"embeddings/{part}", f"discriminator/embeddings_difference/{part}"
        assert of_generator[shared] > 0
        assert of_generator[difference] == 0
        assert of_discriminator[shared] == 0
        assert of_discriminator[difference] > 0


def test_a_difference_starts_at_the_shared_embeddings_and_adds_to_them(pair_with, token_inputs):
    disentangled, weights = pair_with("disentangled")
    shared, _ = pair_with("shared")
    logits = keras.ops.convert_to_numpy(shared["discriminator"](token_inputs))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(disentangled["discriminator"](token_inputs)), logits, atol=1e-6)
    # The same total, half of it moved from the shared table to the difference, gives the same logits.
    word = weights["embeddings/word/embeddings"]
    weights["discriminator/embeddings_difference/word/embeddings"].assign(0.5 * keras.ops.convert_to_numpy(word))
    word.assign(0.5 * keras.ops.convert_to_numpy(word))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(disentangled["discriminator"](token_inputs)), logits, atol=1e-6)


def test_separate_embeddings_have_nothing_in_common(pair_with):
    models, _ = pair_with("none")
    common = {id(variable) for variable in models["generator"].weights} & {id(variable) for variable in models["discriminator"].weights}
    assert not common
    words = [keras.ops.convert_to_numpy(model.get_layer("own_embeddings").word.embeddings) for model in models.values()]
    assert (words[0] != words[1]).any()


def test_output_and_input_embeddings_are_one_table(pair_with, gradients, batch):
    models, weights = pair_with("shared")
    word = weights["embeddings/word/embeddings"]
    absent = (set(range(VOCAB_SIZE)) - set(batch["token_ids"].reshape(-1).tolist())).pop()
    (gradient,) = gradients(lambda: keras.ops.sum(keras.ops.sin(models["generator"](batch))), [word])
    # A token that no input holds is reached through the output alone.
    assert np.abs(gradient[absent]).max() > 0
